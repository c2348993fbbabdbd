-- Keys made ahead. A row is written once and never changed: a key is taken when `next_position` has passed its position.
-- So taking a thousand keys updates one row, and UNIQUE keeps a key from being made twice, also long after it was taken.
CREATE TABLE keys (
    position INTEGER PRIMARY KEY,
    key      INTEGER NOT NULL UNIQUE
) STRICT;

-- How far keys and numbers are handed out. Moving a mark forward is the claim: one statement, durable before the first
-- of the claimed is used. A server that dies leaves a gap, never a double.
CREATE TABLE marks (
    name TEXT PRIMARY KEY,
    next INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO marks (name, next) VALUES ('position', 1), ('number', 0);
