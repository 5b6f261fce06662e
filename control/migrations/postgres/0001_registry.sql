-- How many changes were taken. One row: whoever raises it from the number that the decision was made on has the right to write.
CREATE TABLE head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    sequence BIGINT NOT NULL
);
INSERT INTO head (one, sequence) VALUES (1, 0);

-- Every record, whole, as JSON. Without a body: it was deleted by that change.
CREATE TABLE record (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    body TEXT,
    PRIMARY KEY (kind, name)
);
CREATE INDEX record_sequence ON record (sequence);

-- Who changed what. Written with the change itself; nothing here is ever changed.
CREATE TABLE audit (
    number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sequence BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    entry TEXT NOT NULL
);
CREATE INDEX audit_subject ON audit (subject, number);
CREATE INDEX audit_actor ON audit (actor, number);

-- The last heartbeat of each replica. No change of the registry, so no sequence.
CREATE TABLE heartbeat (
    replica BIGINT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX heartbeat_at ON heartbeat (at_ms);
