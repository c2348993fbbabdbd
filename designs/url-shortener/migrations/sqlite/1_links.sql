-- A link has a number. What the number means is the whole difference between the stages:
--   counted   the table counts, and the code is the number in base62            (single_table, cached)
--   drawn     the number was drawn at random, ahead of time                     (pregenerated)
--   permuted  numbers are handed out in ranges, and the code is a keyed
--             permutation of the number                                         (permuted)
-- It is the rowid, so a look-up by code is one walk down one tree. Numbers in order fill page after page; random ones
-- dirty a page of their own each: compare the stages' create rates.
CREATE TABLE links (
    id         INTEGER PRIMARY KEY,   -- >= 0: the number behind a code; < 0: the link of an alias, see below
    url        TEXT    NOT NULL,      -- exactly what Location will say
    created_at INTEGER NOT NULL,      -- milliseconds since 1970, as all times here
    expires_at INTEGER,
    deleted_at INTEGER,               -- a deleted link stays, so that its code is never given to another
    clicks     INTEGER NOT NULL DEFAULT 0
) STRICT;

-- A link with a name of its own choosing. Its row in `links` has the negative of this number: the two number lines
-- cannot meet, whatever a stage does with the other one. SQLite compares text byte by byte, so `Abc` and `abc` are two.
CREATE TABLE aliases (
    number INTEGER PRIMARY KEY,
    alias  TEXT NOT NULL UNIQUE
) STRICT;

-- What was answered to a create that carried an idempotency key. Written in the same transaction as the link: either
-- both are there or neither is. Forgotten after a day.
CREATE TABLE idempotency (
    key         TEXT PRIMARY KEY,
    fingerprint BLOB    NOT NULL,     -- SHA-256 of what was asked for: the same key with another body is refused
    id          INTEGER NOT NULL REFERENCES links (id),
    alias       TEXT,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_by_age ON idempotency (created_at);

-- Which meaning the numbers of this database have. A stage that gives them another one refuses to open it: it would
-- answer old codes with other people's links.
CREATE TABLE numbering (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    meaning  TEXT NOT NULL
) STRICT;
