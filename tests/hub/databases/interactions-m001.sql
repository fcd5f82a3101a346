BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'interactions','m001_interactions','2026-11-22 20:17:22.293826+00:00');
CREATE TABLE comparisons (
        id TEXT PRIMARY KEY,
        at TEXT NOT NULL,
        messages TEXT NOT NULL,           -- JSON
        left_arm TEXT NOT NULL,           -- references as they were asked for
        right_arm TEXT NOT NULL,
        left_interaction TEXT REFERENCES interactions(id),
        right_interaction TEXT REFERENCES interactions(id),
        vote TEXT CHECK (vote IN ('left', 'right', 'tie', 'both_bad', 'none')),
        voted_at TEXT
    ) STRICT
    ;
CREATE TABLE feedback (
        id INTEGER PRIMARY KEY,
        interaction_id TEXT NOT NULL REFERENCES interactions(id),
        kind TEXT NOT NULL CHECK (kind IN ('thumb', 'edit', 'tags')),
        thumb INTEGER CHECK (thumb IN (-1, 1)),
        edit TEXT,
        tags TEXT,                        -- JSON: list of strings
        comment TEXT,
        at TEXT NOT NULL
    ) STRICT
    ;
INSERT INTO "feedback" VALUES(1,'int_1','thumb',1,NULL,NULL,NULL,'2026-11-22T10:00:01.000Z');
CREATE TABLE interactions (
        id TEXT PRIMARY KEY,
        at TEXT NOT NULL,
        endpoint TEXT NOT NULL,           -- chat or completions
        requested TEXT NOT NULL,          -- `model` as the client wrote it
        adapter TEXT NOT NULL,            -- the version that answered: support@3, or base
        digest TEXT NOT NULL,             -- of that version; '' for the base
        request TEXT NOT NULL,            -- JSON: the client's body
        answer TEXT NOT NULL,             -- the first choice's text
        response TEXT NOT NULL,           -- JSON: choices, usage and finish reasons
        status TEXT NOT NULL CHECK (status IN ('complete', 'incomplete', 'failed')),
        error TEXT,
        user TEXT,                        -- the body's `user`
        ttft_ms REAL,
        latency_ms REAL NOT NULL,
        prompt_tokens INTEGER,
        completion_tokens INTEGER
    ) STRICT
    ;
INSERT INTO "interactions" VALUES('int_1','2026-11-22T10:00:00.000Z','chat','support','support@1','d','{}','Hello','{}','complete',NULL,NULL,1.0,2.0,3,4);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX interactions_by_time ON interactions (at);
CREATE INDEX feedback_by_interaction ON feedback (interaction_id);
COMMIT;
