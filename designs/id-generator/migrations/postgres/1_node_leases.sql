-- Node ids and who may use them for how long. A row is there for every node id that the layout has; claiming and renewing
-- change one row in one statement. `expires_at` is about this server's clock and says when another may claim the row;
-- `until_ms` is about the ids and says which times they may carry. The second is what keeps them apart: the next holder
-- begins where it ends.
CREATE TABLE node_leases (
    node       integer PRIMARY KEY,
    epoch      bigint NOT NULL DEFAULT 0,                    -- grows with every loan: an older one cannot be renewed
    expires_at timestamptz NOT NULL DEFAULT '-infinity',
    until_ms   bigint NOT NULL DEFAULT 0                     -- milliseconds since 1970
);

-- Which bits the ids have. Ids of two layouts may be the same number, so another one is refused.
CREATE TABLE layout (
    only_row integer PRIMARY KEY CHECK (only_row = 1),
    meaning  text NOT NULL
);
