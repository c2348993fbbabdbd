-- Links for any number of servers. What is another than in `migrations/sqlite/` is said here.

-- Written once; only a delete changes a row. Clicks stand elsewhere: an UPDATE in Postgres writes the whole row anew, and
-- would copy the URL for each click.
CREATE TABLE links (
    id         BIGINT PRIMARY KEY,     -- >= 0: the number behind a code; < 0: the link of an alias
    url        TEXT   NOT NULL,        -- exactly what Location will say
    created_at BIGINT NOT NULL,        -- milliseconds since 1970, as all times here
    expires_at BIGINT,
    deleted_at BIGINT                  -- a deleted link stays, so that its code is never given to another
);

-- A link with a name of its own choosing has the negative of this number. "C": compared byte by byte, whatever language
-- the server speaks.
CREATE TABLE aliases (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alias  TEXT COLLATE "C" NOT NULL UNIQUE
);

-- What was answered to a create that carried an idempotency key, written in the same transaction as the link.
CREATE TABLE idempotency (
    key         TEXT COLLATE "C" PRIMARY KEY,
    fingerprint BYTEA  NOT NULL,       -- SHA-256 of what was asked for
    id          BIGINT NOT NULL,
    alias       TEXT,
    created_at  BIGINT NOT NULL
);
CREATE INDEX idempotency_by_age ON idempotency (created_at);

-- Which meaning the numbers of this database have. `site` tells databases apart that share a Redis.
CREATE TABLE numbering (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    meaning  TEXT NOT NULL,
    site     TEXT NOT NULL
);

-- A row is a claim of the id-th block of numbers. Claims are inserts and not updates of a mark: no server waits for the
-- commit of another. A claim is durable before the first of its numbers is used; one that dies leaves a gap.
CREATE TABLE claims (
    id         BIGINT GENERATED ALWAYS AS IDENTITY (MINVALUE 0 START 0) PRIMARY KEY,
    claimed_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- How often each link was followed. Room in each page, so that a row can be rewritten where it stands.
CREATE TABLE clicks (
    id     BIGINT PRIMARY KEY,
    clicks BIGINT NOT NULL
) WITH (fillfactor = 50);

-- Which batches of clicks were added. Written in the same transaction as the clicks: a batch whose answer was lost is sent
-- again, and added once.
CREATE TABLE click_batches (
    id       TEXT COLLATE "C" PRIMARY KEY,
    added_at BIGINT NOT NULL
);
CREATE INDEX click_batches_by_age ON click_batches (added_at);
