BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'registry','m001_registry','2026-11-22 20:17:22.200153+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'registry','m002_deletion_and_signatures','2026-11-22 23:35:29.969191+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'registry','m003_api_keys','2026-11-23 02:49:57.258635+00:00');
INSERT INTO "_sqlite_migrations" VALUES(4,'registry','m004_run_events','2026-11-23 02:50:59.780444+00:00');
INSERT INTO "_sqlite_migrations" VALUES(5,'registry','m005_files_and_jobs','2026-11-23 03:26:59.173491+00:00');
CREATE TABLE adapters (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        base_id INTEGER NOT NULL REFERENCES bases(id),
        last_number INTEGER NOT NULL DEFAULT 0,  -- only ever grows, so numbers are never used again
        created_at TEXT NOT NULL
    ) STRICT
    ;
INSERT INTO "adapters" VALUES(1,'support',1,3,'2026-11-22T20:17:22.219Z');
CREATE TABLE alias_moves (
        id INTEGER PRIMARY KEY,
        adapter_id INTEGER NOT NULL REFERENCES adapters(id),
        alias TEXT NOT NULL,
        action TEXT NOT NULL CHECK (action IN ('publish', 'set', 'promote', 'rollback', 'rm')),
        from_version_id INTEGER REFERENCES versions(id),
        to_version_id INTEGER REFERENCES versions(id),
        who TEXT NOT NULL,
        why TEXT NOT NULL,
        verdict TEXT NOT NULL,            -- PASS, FAIL, INSUFFICIENT, NONE
        forced INTEGER NOT NULL CHECK (forced IN (0, 1)),
        at TEXT NOT NULL
    ) STRICT
    ;
INSERT INTO "alias_moves" VALUES(1,1,'production','publish',NULL,1,'loom','first version','NONE',0,'2026-11-22T20:17:22.219Z');
INSERT INTO "alias_moves" VALUES(2,1,'production','promote',1,2,'loom','better','PASS',0,'2026-11-22T20:17:22.230Z');
INSERT INTO "alias_moves" VALUES(3,1,'candidate','set',NULL,3,'loom','','NONE',0,'2026-11-22T20:17:22.231Z');
INSERT INTO "alias_moves" VALUES(4,1,'production','rollback',2,1,'loom','complaints','NONE',0,'2026-11-22T20:17:22.231Z');
CREATE TABLE aliases (
        adapter_id INTEGER NOT NULL REFERENCES adapters(id),
        alias TEXT NOT NULL,
        version_id INTEGER NOT NULL REFERENCES versions(id),
        PRIMARY KEY (adapter_id, alias)
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "aliases" VALUES(1,'candidate',3);
INSERT INTO "aliases" VALUES(1,'production',1);
CREATE TABLE api_keys (
        id TEXT PRIMARY KEY,              -- public: the part of the key that it is found by
        name TEXT NOT NULL,
        sha256 TEXT NOT NULL,             -- of the whole key as it is sent
        scopes TEXT NOT NULL,             -- JSON: list of infer, feedback, admin
        namespaces TEXT,                  -- JSON: list; NULL for every adapter
        rate_per_minute INTEGER CHECK (rate_per_minute > 0),
        concurrent INTEGER CHECK (concurrent > 0),
        created_by TEXT NOT NULL,
        created_at TEXT NOT NULL,
        expires_at TEXT,
        revoked_by TEXT,
        revoked_at TEXT
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "api_keys" VALUES('0ea9859d83eb','ci','8239e5f35be4f034f19faa3a94752540ceb4c8e7ca876524f93e052649b425a9','["infer"]','["team"]',NULL,NULL,'loom','2026-11-23T02:49:57.260Z',NULL,NULL,NULL);
CREATE TABLE bases (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        source TEXT NOT NULL,             -- a folder, or a model's name on the Hugging Face Hub
        revision TEXT NOT NULL,
        config_sha256 TEXT NOT NULL,
        tokenizer_sha256 TEXT NOT NULL,
        template_sha256 TEXT NOT NULL,
        digest TEXT NOT NULL,             -- over the four above
        shapes TEXT NOT NULL,             -- JSON: tensor name -> shape
        added_at TEXT NOT NULL
    ) STRICT
    ;
INSERT INTO "bases" VALUES(1,'tiny','/models/tiny','sha256:w','cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','tttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt','','766dbaae4385d1ef659f9e84c9c719f55c439ba26e7c0dab2f33c8f64f4a95c5','{"model.embed_tokens.weight":[32,8],"model.layers.0.mlp.up_proj.weight":[16,8],"model.layers.0.self_attn.o_proj.weight":[8,8],"model.layers.0.self_attn.q_proj.weight":[8,8],"model.layers.1.mlp.up_proj.weight":[16,8],"model.layers.1.self_attn.o_proj.weight":[8,8],"model.layers.1.self_attn.q_proj.weight":[8,8]}','2026-11-22T20:17:22.201Z');
CREATE TABLE datasets (
        id INTEGER PRIMARY KEY,
        digest TEXT NOT NULL UNIQUE,      -- sha256 over the canonical rows
        name TEXT NOT NULL,
        source TEXT NOT NULL,
        format TEXT NOT NULL,
        rows INTEGER NOT NULL,
        lint TEXT NOT NULL,               -- JSON: the lint report
        added_at TEXT NOT NULL
    ) STRICT
    ;
INSERT INTO "datasets" VALUES(1,'dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','tickets','tickets.jsonl','messages',60,'{"findings":[]}','2026-11-22T20:17:22.202Z');
CREATE TABLE evaluations (
        id INTEGER PRIMARY KEY,
        version_id INTEGER NOT NULL REFERENCES versions(id),
        against TEXT NOT NULL,            -- 'base' or a version, as it stood then
        dataset_id INTEGER NOT NULL REFERENCES datasets(id),
        metric TEXT NOT NULL,
        verdict TEXT NOT NULL CHECK (verdict IN ('PASS', 'FAIL', 'INSUFFICIENT')),
        result TEXT NOT NULL,             -- JSON: scores, intervals, rows
        at TEXT NOT NULL
    ) STRICT
    ;
INSERT INTO "evaluations" VALUES(1,2,'base',1,'exact','PASS','{"summary":"+40 points"}','2026-11-22T20:17:22.230Z');
CREATE TABLE files (
        number INTEGER PRIMARY KEY,       -- in the order in which they came
        id TEXT NOT NULL UNIQUE,          -- file-…, by which it also lies on the disk
        filename TEXT NOT NULL,           -- as it was sent
        purpose TEXT NOT NULL CHECK (purpose IN ('fine-tune', 'fine-tune-results')),
        size INTEGER NOT NULL,
        sha256 TEXT NOT NULL,
        namespaces TEXT,                  -- JSON: list, as of the key that sent it; NULL: no limit
        created_at TEXT NOT NULL,
        expires_at TEXT
    ) STRICT
    ;
INSERT INTO "files" VALUES(1,'file-h53tftbysplaz470wx6yj48p','train.jsonl','fine-tune',17,'19fc5b26092a5733a14f9b591aba844f8e317d306e4b1e56d8b3ecbc2a0eafca',NULL,'2026-11-23T03:26:59.188Z',NULL);
INSERT INTO "files" VALUES(2,'file-k2q0kqdwauskcxrfk1kdhwmp','step_metrics.csv','fine-tune-results',5,'2b7e2e900326717f69fe1e514d7c7d161bff519377c75302136b34e014fc891c',NULL,'2026-11-23T03:26:59.226Z',NULL);
CREATE TABLE job_events (
        id INTEGER PRIMARY KEY,           -- of one job they grow with time
        job INTEGER NOT NULL REFERENCES jobs(number),
        at TEXT NOT NULL,
        level TEXT NOT NULL CHECK (level IN ('info', 'warn', 'error')),
        message TEXT NOT NULL
    ) STRICT
    ;
INSERT INTO "job_events" VALUES(1,1,'2026-11-23T03:26:59.192Z','info','Created fine-tuning job: ftjob-382ut4zl4y03upfq5wsypmzl');
INSERT INTO "job_events" VALUES(2,1,'2026-11-23T03:26:59.192Z','info','Validating training file: file-h53tftbysplaz470wx6yj48p');
INSERT INTO "job_events" VALUES(3,1,'2026-11-23T03:26:59.198Z','info','The files are valid; the job waits for its turn');
INSERT INTO "job_events" VALUES(4,1,'2026-11-23T03:26:59.208Z','info','Fine-tuning job started');
INSERT INTO "job_events" VALUES(5,1,'2026-11-23T03:26:59.236Z','info','New fine-tuned model created: ft:tiny:Loom:support:382ut4zl is support@3');
INSERT INTO "job_events" VALUES(6,1,'2026-11-23T03:26:59.240Z','info','The job has successfully completed');
INSERT INTO "job_events" VALUES(7,2,'2026-11-23T03:26:59.242Z','info','Created fine-tuning job: ftjob-3v9x2ewyzx25ji5vp2wmaw86');
INSERT INTO "job_events" VALUES(8,2,'2026-11-23T03:26:59.242Z','info','Validating training file: file-h53tftbysplaz470wx6yj48p');
CREATE TABLE jobs (
        number INTEGER PRIMARY KEY,       -- their turn
        id TEXT NOT NULL UNIQUE,          -- ftjob-…
        short TEXT NOT NULL UNIQUE,       -- what the model's name ends with: ft:…:short
        adapter TEXT NOT NULL,            -- what is published to
        namespace TEXT,                   -- of that adapter; NULL where it has none
        model TEXT NOT NULL,              -- as it was asked for
        base_id INTEGER NOT NULL REFERENCES bases(id),
        continue_from TEXT,               -- an exact version: support@3
        method TEXT NOT NULL CHECK (method IN ('supervised', 'dpo')),
        hyperparameters TEXT NOT NULL,    -- JSON, as they were asked for
        seed INTEGER NOT NULL,
        suffix TEXT,
        metadata TEXT,                    -- JSON: object of texts
        training_file TEXT NOT NULL,
        validation_file TEXT,
        created_by TEXT NOT NULL,
        created_at TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('validating_files', 'queued', 'running', 'paused',
            'succeeded', 'failed', 'cancelled')),
        started_at TEXT,                  -- when a process was last put to it
        worker INTEGER,                   -- that process
        run TEXT REFERENCES runs(id),
        publishing INTEGER NOT NULL DEFAULT 0,    -- 1: too late to cancel or pause
        deaths INTEGER NOT NULL DEFAULT 0,        -- of processes, since the last checkpoint
        last_checkpoint INTEGER NOT NULL DEFAULT 0,   -- of run_events, when one died last
        finished_at TEXT,
        error TEXT,                       -- JSON: code, message, param
        version INTEGER,                  -- the adapter's number that it became
        step INTEGER,                     -- the checkpoint that this is
        trained_tokens INTEGER,
        result_file TEXT
    ) STRICT
    ;
INSERT INTO "jobs" VALUES(1,'ftjob-382ut4zl4y03upfq5wsypmzl','382ut4zl','support',NULL,'tiny',1,NULL,'supervised','{"n_epochs": "auto"}',7,'support','{"team": "a"}','file-h53tftbysplaz470wx6yj48p',NULL,'root','2026-11-23T03:26:59.192Z','succeeded','2026-11-23T03:26:59.204Z',NULL,'20261122-201722-b61fd7',0,0,0,'2026-11-23T03:26:59.232Z',NULL,3,2,10,'file-k2q0kqdwauskcxrfk1kdhwmp');
INSERT INTO "jobs" VALUES(2,'ftjob-3v9x2ewyzx25ji5vp2wmaw86','3v9x2ewy','ft-3v9x2ewy',NULL,'tiny',1,NULL,'supervised','{"n_epochs": "auto"}',7,NULL,'{"team": "a"}','file-h53tftbysplaz470wx6yj48p',NULL,'root','2026-11-23T03:26:59.242Z','validating_files',NULL,NULL,NULL,0,0,0,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE run_events (
        id INTEGER PRIMARY KEY,           -- of one run they grow with time
        run TEXT NOT NULL REFERENCES runs(id),
        at TEXT NOT NULL,
        kind TEXT NOT NULL,
        data TEXT NOT NULL                -- JSON
    ) STRICT
    ;
INSERT INTO "run_events" VALUES(1,'20261122-201722-b61fd7','2026-11-23T02:50:59.787Z','started','{"resumed":false}');
INSERT INTO "run_events" VALUES(2,'20261122-201722-b61fd7','2026-11-23T02:50:59.787Z','step','{"epoch":0.5,"learning_rate":0.005,"loss":2.5,"of":2,"step":1,"tokens_per_s":900.0}');
INSERT INTO "run_events" VALUES(3,'20261122-201722-b61fd7','2026-11-23T02:50:59.788Z','finished','{}');
CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        adapter TEXT NOT NULL,
        method TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('running', 'finished', 'failed')),
        base_id INTEGER NOT NULL REFERENCES bases(id),
        dataset_id INTEGER NOT NULL REFERENCES datasets(id),
        config TEXT NOT NULL,             -- JSON: the full training config
        pid INTEGER NOT NULL,
        started_at TEXT NOT NULL,
        finished_at TEXT,
        lineage TEXT,                     -- JSON: what a version made from this run will say of it
        error TEXT
    , wanted TEXT CHECK (wanted IN ('cancel', 'pause')), stopped TEXT CHECK (stopped IN ('cancelled', 'paused'))) STRICT
    ;
INSERT INTO "runs" VALUES('20261122-201722-b61fd7','support','sft','finished',1,1,'{"seed":0}',19524,'2026-11-22T20:17:22.203Z','2026-11-22T20:17:22.203Z','{"dataset":{"digest":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","name":"tickets","rows":60},"seed":0}',NULL,NULL,NULL);
CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
INSERT INTO "settings" VALUES('default_base','tiny');
CREATE TABLE signatures (
        version_id INTEGER NOT NULL REFERENCES versions(id),
        key_id TEXT NOT NULL,             -- SHA256:…, as ssh-keygen prints a public key
        public_key TEXT NOT NULL,         -- OpenSSH's one line, without a comment
        signature TEXT NOT NULL,          -- base64
        signed_by TEXT NOT NULL,
        signed_at TEXT NOT NULL,
        PRIMARY KEY (version_id, key_id)
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "signatures" VALUES(1,'SHA256:HBfmwX5IHsAoxzqRwIVlATJazwHWvvTmAosK5iTJfJc','ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIN5Jd5gNVs/4dcMCexC4QFzDUhmstqenj6VgwrwjFh3f','RmAgBZ92fbVF0e1wP99y9az+9XzLRbZF+pELX7rktUJFtIsiOd5fB/Of4GUsMvWdN5TEZwPJUxYFOXdNbsZGBQ==','ada','2026-11-22T23:35:29.975Z');
CREATE TABLE version_files (
        version_id INTEGER NOT NULL REFERENCES versions(id),
        path TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        size INTEGER NOT NULL,
        PRIMARY KEY (version_id, path)
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "version_files" VALUES(1,'adapter_config.json','461dae4a6cf5086930d638117b8368d4b6c985beb72cc553d9bd6dcb5e69f010',148);
INSERT INTO "version_files" VALUES(1,'adapter_model.safetensors','98cb98c6f8dc24c0933ffc302607728c66792b83c972346f05f97c02bd4a6375',3232);
INSERT INTO "version_files" VALUES(2,'adapter_config.json','461dae4a6cf5086930d638117b8368d4b6c985beb72cc553d9bd6dcb5e69f010',148);
INSERT INTO "version_files" VALUES(2,'adapter_model.safetensors','0c9d7ba9164c3819f11a560c6fe07e8ce31a689392b90450f94bbcab780b6d07',3232);
INSERT INTO "version_files" VALUES(3,'adapter_config.json','461dae4a6cf5086930d638117b8368d4b6c985beb72cc553d9bd6dcb5e69f010',148);
INSERT INTO "version_files" VALUES(3,'adapter_model.safetensors','318de8200da9c0cceecbce49a152a5e08e3c0c0edb5cb0c9bb77618774523972',3232);
CREATE TABLE version_parents (
        version_id INTEGER NOT NULL REFERENCES versions(id),
        parent_id INTEGER NOT NULL REFERENCES versions(id),
        relation TEXT NOT NULL CHECK (relation IN ('continued', 'composed')),
        weight TEXT,                      -- a decimal, for composed versions
        PRIMARY KEY (version_id, parent_id)
    ) STRICT, WITHOUT ROWID
    ;
INSERT INTO "version_parents" VALUES(2,1,'continued',NULL);
INSERT INTO "version_parents" VALUES(3,2,'continued',NULL);
CREATE TABLE versions (
        id INTEGER PRIMARY KEY,
        adapter_id INTEGER NOT NULL REFERENCES adapters(id),
        number INTEGER NOT NULL CHECK (number > 0),
        digest TEXT NOT NULL,
        manifest TEXT NOT NULL,
        rank INTEGER NOT NULL,
        size INTEGER NOT NULL,            -- bytes
        lineage TEXT NOT NULL,            -- JSON
        run_id TEXT REFERENCES runs(id),
        dataset_id INTEGER REFERENCES datasets(id),
        published_by TEXT NOT NULL,
        published_at TEXT NOT NULL,
        deleted_at TEXT,
        UNIQUE (adapter_id, number)
    ) STRICT
    ;
INSERT INTO "versions" VALUES(1,1,1,'ac4d766fdcc9dfa1ecfc11e9bf1d7eb2f358855361d8366175a9f51678fc341a','{"base":{"config_sha256":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","name":"tiny","revision":"sha256:w","template_sha256":"","tokenizer_sha256":"tttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt"},"files":[{"path":"adapter_config.json","sha256":"461dae4a6cf5086930d638117b8368d4b6c985beb72cc553d9bd6dcb5e69f010","size":148},{"path":"adapter_model.safetensors","sha256":"98cb98c6f8dc24c0933ffc302607728c66792b83c972346f05f97c02bd4a6375","size":3232}],"schema":1}',4,3380,'{"dataset":{"digest":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","name":"tickets","rows":60},"effect":{"divergence":0.1,"largest":1.0},"seed":0}','20261122-201722-b61fd7',1,'loom','2026-11-22T20:17:22.219Z',NULL);
INSERT INTO "versions" VALUES(2,1,2,'e4e049cc0c972445cf867d1a65140b800720b12cff38b021e801879d01718d95','{"base":{"config_sha256":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","name":"tiny","revision":"sha256:w","template_sha256":"","tokenizer_sha256":"tttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt"},"files":[{"path":"adapter_config.json","sha256":"461dae4a6cf5086930d638117b8368d4b6c985beb72cc553d9bd6dcb5e69f010","size":148},{"path":"adapter_model.safetensors","sha256":"0c9d7ba9164c3819f11a560c6fe07e8ce31a689392b90450f94bbcab780b6d07","size":3232}],"schema":1}',4,3380,'{"dataset":{"digest":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","name":"tickets","rows":60},"effect":{"divergence":0.1,"largest":1.0},"seed":1}',NULL,1,'loom','2026-11-22T20:17:22.224Z',NULL);
INSERT INTO "versions" VALUES(3,1,3,'ef29f0c06afa07027e37263beab6ecaab4515c4005f6a38ef26997bb21297390','{"base":{"config_sha256":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","name":"tiny","revision":"sha256:w","template_sha256":"","tokenizer_sha256":"tttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttttt"},"files":[{"path":"adapter_config.json","sha256":"461dae4a6cf5086930d638117b8368d4b6c985beb72cc553d9bd6dcb5e69f010","size":148},{"path":"adapter_model.safetensors","sha256":"318de8200da9c0cceecbce49a152a5e08e3c0c0edb5cb0c9bb77618774523972","size":3232}],"schema":1}',4,3380,'{"dataset":{"digest":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd","name":"tickets","rows":60},"effect":{"divergence":0.1,"largest":1.0},"seed":2}',NULL,1,'loom','2026-11-22T20:17:22.228Z',NULL);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE UNIQUE INDEX versions_by_digest ON versions (adapter_id, digest)
        WHERE deleted_at IS NULL
    ;
CREATE INDEX version_files_by_blob ON version_files (sha256);
CREATE INDEX alias_moves_by_alias ON alias_moves (adapter_id, alias, id);
CREATE INDEX evaluations_by_version ON evaluations (version_id, id);
CREATE TRIGGER versions_are_immutable BEFORE UPDATE OF
        adapter_id, number, digest, manifest, rank, size, lineage, run_id, dataset_id,
        published_by, published_at ON versions
    BEGIN SELECT RAISE(ABORT, 'a version is immutable'); END;
CREATE TRIGGER version_files_are_immutable BEFORE UPDATE ON version_files
    BEGIN SELECT RAISE(ABORT, 'a version is immutable'); END;
CREATE TRIGGER alias_moves_are_append_only_1 BEFORE UPDATE ON alias_moves
    BEGIN SELECT RAISE(ABORT, 'the history of aliases is append-only'); END;
CREATE TRIGGER alias_moves_are_append_only_2 BEFORE DELETE ON alias_moves
    BEGIN SELECT RAISE(ABORT, 'the history of aliases is append-only'); END;
CREATE TRIGGER numbers_only_grow BEFORE UPDATE OF last_number ON adapters
    WHEN new.last_number < old.last_number
    BEGIN SELECT RAISE(ABORT, 'version numbers are never used again'); END;
CREATE INDEX version_parents_by_parent ON version_parents (parent_id);
CREATE TRIGGER versions_keep_their_rows BEFORE DELETE ON versions
    BEGIN SELECT RAISE(ABORT, 'a version keeps its row, also when it is deleted'); END;
CREATE TRIGGER deletion_is_final BEFORE UPDATE OF deleted_at ON versions
    WHEN old.deleted_at IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'a deleted version stays deleted'); END;
CREATE TRIGGER aliased_versions_stay BEFORE UPDATE OF deleted_at ON versions
    WHEN new.deleted_at IS NOT NULL
        AND EXISTS (SELECT 1 FROM aliases WHERE version_id = new.id)
    BEGIN SELECT RAISE(ABORT, 'an alias points to this version'); END;
CREATE TRIGGER aliases_name_living_versions_1 BEFORE INSERT ON aliases
    WHEN EXISTS (SELECT 1 FROM versions WHERE id = new.version_id AND deleted_at IS NOT NULL)
    BEGIN SELECT RAISE(ABORT, 'an alias names a version that is there'); END;
CREATE TRIGGER aliases_name_living_versions_2 BEFORE UPDATE ON aliases
    WHEN EXISTS (SELECT 1 FROM versions WHERE id = new.version_id AND deleted_at IS NOT NULL)
    BEGIN SELECT RAISE(ABORT, 'an alias names a version that is there'); END;
CREATE UNIQUE INDEX api_keys_by_name ON api_keys (name) WHERE revoked_at IS NULL;
CREATE TRIGGER api_keys_are_immutable BEFORE UPDATE OF
        id, name, sha256, scopes, namespaces, rate_per_minute, concurrent, created_by, created_at,
        expires_at ON api_keys
    BEGIN SELECT RAISE(ABORT, 'an API key is immutable: revoke it and make another'); END;
CREATE TRIGGER revocation_is_final BEFORE UPDATE OF revoked_by, revoked_at ON api_keys
    WHEN old.revoked_at IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'a revoked API key stays revoked'); END;
CREATE TRIGGER api_keys_keep_their_rows BEFORE DELETE ON api_keys
    BEGIN SELECT RAISE(ABORT, 'an API key keeps its row, also when it is revoked'); END;
CREATE INDEX run_events_by_run ON run_events (run, id);
CREATE INDEX jobs_by_status ON jobs (status, number);
CREATE INDEX job_events_by_job ON job_events (job, id);
COMMIT;
