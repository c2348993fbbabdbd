-- A board by name, and what was decided when it was made: policy, ranking, order and period, as words.
CREATE TABLE boards (
    id       INTEGER PRIMARY KEY,
    name     TEXT NOT NULL UNIQUE,
    settings TEXT NOT NULL
) STRICT;

-- A board during one of its periods. Changes are numbered by `reached`, so that of two members with the same score it is
-- known who had it first: clocks may stand still or be set back.
CREATE TABLE editions (
    id           INTEGER PRIMARY KEY,
    board        INTEGER NOT NULL REFERENCES boards (id),
    number       INTEGER NOT NULL,
    forgotten_at INTEGER,
    reached      INTEGER NOT NULL DEFAULT 0,
    UNIQUE (board, number)
) STRICT;

CREATE TABLE scores (
    edition INTEGER NOT NULL REFERENCES editions (id) ON DELETE CASCADE,
    member  TEXT NOT NULL,
    score   INTEGER NOT NULL CHECK (score BETWEEN -9007199254740991 AND 9007199254740991),
    reached INTEGER NOT NULL,
    PRIMARY KEY (edition, member)
) STRICT, WITHOUT ROWID;

-- The board in its order. A position is found by counting along it: it has no counts of its own.
CREATE UNIQUE INDEX scores_in_order ON scores (edition, score DESC, reached);

-- Events that were counted, for as long as they may come again.
CREATE TABLE events (
    edition INTEGER NOT NULL REFERENCES editions (id) ON DELETE CASCADE,
    member  TEXT NOT NULL,
    event   TEXT NOT NULL,
    at_ms   INTEGER NOT NULL,
    PRIMARY KEY (edition, member, event)
) STRICT, WITHOUT ROWID;

CREATE INDEX events_by_time ON events (at_ms);
