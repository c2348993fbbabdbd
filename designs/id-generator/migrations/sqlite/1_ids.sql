-- The row that counts. A request moves it forward in a transaction of its own (ticket_row), or a block of a thousand does
-- (ranges): one statement, durable before the first number behind it is given. A server that dies leaves a gap, never a
-- double. The two stages may follow each other on one file.
CREATE TABLE tickets (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    next     INTEGER NOT NULL         -- the smallest number that was not given yet
) STRICT;
INSERT INTO tickets (only_row, next) VALUES (1, 1);

-- How far the ids of a node may have come (snowflake). It is moved ahead of them: a server that starts again begins
-- behind it, whatever the clock shows by then.
CREATE TABLE high_water (
    node     INTEGER PRIMARY KEY,
    until_ms INTEGER NOT NULL         -- milliseconds since 1970; ids carry earlier times only
) STRICT;

-- Which bits those ids have. Ids of two layouts may be the same number, so another one is refused.
CREATE TABLE layout (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    meaning  TEXT NOT NULL
) STRICT;
