"""The registry's schema, as numbered steps. Append only: a released step is never edited.

Versions, their files and the history of aliases are immutable, and the database itself says so:
triggers refuse what no code path should ever try.
"""

from typing import Any

from hub.sqlite import Migrations

registry_migrations = Migrations("registry")
interaction_migrations = Migrations("interactions")


@registry_migrations()
def m001_registry(db: Any) -> None:
    for statement in _M001:
        db.execute(statement)


@registry_migrations()
def m002_deletion_and_signatures(db: Any) -> None:
    for statement in _M002:
        db.execute(statement)


@registry_migrations()
def m003_api_keys(db: Any) -> None:
    for statement in _M003:
        db.execute(statement)


@registry_migrations()
def m004_run_events(db: Any) -> None:
    for statement in _M004:
        db.execute(statement)


@registry_migrations()
def m005_files_and_jobs(db: Any) -> None:
    for statement in _M005:
        db.execute(statement)


@interaction_migrations()
def m001_interactions(db: Any) -> None:
    for statement in _M001_INTERACTIONS:
        db.execute(statement)


@interaction_migrations()
def m002_keys(db: Any) -> None:
    for statement in _M002_INTERACTIONS:
        db.execute(statement)


_M001 = (
    "CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    """
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
    """,
    """
    CREATE TABLE adapters (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        base_id INTEGER NOT NULL REFERENCES bases(id),
        last_number INTEGER NOT NULL DEFAULT 0,  -- only ever grows, so numbers are never used again
        created_at TEXT NOT NULL
    ) STRICT
    """,
    """
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
    """,
    """
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
    ) STRICT
    """,
    """
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
    """,
    """
    CREATE UNIQUE INDEX versions_by_digest ON versions (adapter_id, digest)
        WHERE deleted_at IS NULL
    """,
    """
    CREATE TABLE version_files (
        version_id INTEGER NOT NULL REFERENCES versions(id),
        path TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        size INTEGER NOT NULL,
        PRIMARY KEY (version_id, path)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX version_files_by_blob ON version_files (sha256)",
    """
    CREATE TABLE version_parents (
        version_id INTEGER NOT NULL REFERENCES versions(id),
        parent_id INTEGER NOT NULL REFERENCES versions(id),
        relation TEXT NOT NULL CHECK (relation IN ('continued', 'composed')),
        weight TEXT,                      -- a decimal, for composed versions
        PRIMARY KEY (version_id, parent_id)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE aliases (
        adapter_id INTEGER NOT NULL REFERENCES adapters(id),
        alias TEXT NOT NULL,
        version_id INTEGER NOT NULL REFERENCES versions(id),
        PRIMARY KEY (adapter_id, alias)
    ) STRICT, WITHOUT ROWID
    """,
    """
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
    """,
    "CREATE INDEX alias_moves_by_alias ON alias_moves (adapter_id, alias, id)",
    """
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
    """,
    "CREATE INDEX evaluations_by_version ON evaluations (version_id, id)",
    """
    CREATE TRIGGER versions_are_immutable BEFORE UPDATE OF
        adapter_id, number, digest, manifest, rank, size, lineage, run_id, dataset_id,
        published_by, published_at ON versions
    BEGIN SELECT RAISE(ABORT, 'a version is immutable'); END
    """,
    """
    CREATE TRIGGER version_files_are_immutable BEFORE UPDATE ON version_files
    BEGIN SELECT RAISE(ABORT, 'a version is immutable'); END
    """,
    """
    CREATE TRIGGER alias_moves_are_append_only_1 BEFORE UPDATE ON alias_moves
    BEGIN SELECT RAISE(ABORT, 'the history of aliases is append-only'); END
    """,
    """
    CREATE TRIGGER alias_moves_are_append_only_2 BEFORE DELETE ON alias_moves
    BEGIN SELECT RAISE(ABORT, 'the history of aliases is append-only'); END
    """,
    """
    CREATE TRIGGER numbers_only_grow BEFORE UPDATE OF last_number ON adapters
    WHEN new.last_number < old.last_number
    BEGIN SELECT RAISE(ABORT, 'version numbers are never used again'); END
    """,
)

_M002 = (
    """
    CREATE TABLE signatures (
        version_id INTEGER NOT NULL REFERENCES versions(id),
        key_id TEXT NOT NULL,             -- SHA256:…, as ssh-keygen prints a public key
        public_key TEXT NOT NULL,         -- OpenSSH's one line, without a comment
        signature TEXT NOT NULL,          -- base64
        signed_by TEXT NOT NULL,
        signed_at TEXT NOT NULL,
        PRIMARY KEY (version_id, key_id)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX version_parents_by_parent ON version_parents (parent_id)",
    # A deleted version keeps its row: its number, its digest and its place in the history stay.
    """
    CREATE TRIGGER versions_keep_their_rows BEFORE DELETE ON versions
    BEGIN SELECT RAISE(ABORT, 'a version keeps its row, also when it is deleted'); END
    """,
    """
    CREATE TRIGGER deletion_is_final BEFORE UPDATE OF deleted_at ON versions
    WHEN old.deleted_at IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'a deleted version stays deleted'); END
    """,
    """
    CREATE TRIGGER aliased_versions_stay BEFORE UPDATE OF deleted_at ON versions
    WHEN new.deleted_at IS NOT NULL
        AND EXISTS (SELECT 1 FROM aliases WHERE version_id = new.id)
    BEGIN SELECT RAISE(ABORT, 'an alias points to this version'); END
    """,
    """
    CREATE TRIGGER aliases_name_living_versions_1 BEFORE INSERT ON aliases
    WHEN EXISTS (SELECT 1 FROM versions WHERE id = new.version_id AND deleted_at IS NOT NULL)
    BEGIN SELECT RAISE(ABORT, 'an alias names a version that is there'); END
    """,
    """
    CREATE TRIGGER aliases_name_living_versions_2 BEFORE UPDATE ON aliases
    WHEN EXISTS (SELECT 1 FROM versions WHERE id = new.version_id AND deleted_at IS NOT NULL)
    BEGIN SELECT RAISE(ABORT, 'an alias names a version that is there'); END
    """,
)

_M003 = (
    """
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
    """,
    # A name is free again once its key is revoked; an id never is.
    "CREATE UNIQUE INDEX api_keys_by_name ON api_keys (name) WHERE revoked_at IS NULL",
    """
    CREATE TRIGGER api_keys_are_immutable BEFORE UPDATE OF
        id, name, sha256, scopes, namespaces, rate_per_minute, concurrent, created_by, created_at,
        expires_at ON api_keys
    BEGIN SELECT RAISE(ABORT, 'an API key is immutable: revoke it and make another'); END
    """,
    """
    CREATE TRIGGER revocation_is_final BEFORE UPDATE OF revoked_by, revoked_at ON api_keys
    WHEN old.revoked_at IS NOT NULL
    BEGIN SELECT RAISE(ABORT, 'a revoked API key stays revoked'); END
    """,
    """
    CREATE TRIGGER api_keys_keep_their_rows BEFORE DELETE ON api_keys
    BEGIN SELECT RAISE(ABORT, 'an API key keeps its row, also when it is revoked'); END
    """,
)

_M004 = (
    # What somebody asks of a run from elsewhere; the trainer reads it about once a second.
    "ALTER TABLE runs ADD COLUMN wanted TEXT CHECK (wanted IN ('cancel', 'pause'))",
    # How a run ended whose status is 'failed' because somebody wanted that it ends.
    "ALTER TABLE runs ADD COLUMN stopped TEXT CHECK (stopped IN ('cancelled', 'paused'))",
    """
    CREATE TABLE run_events (
        id INTEGER PRIMARY KEY,           -- of one run they grow with time
        run TEXT NOT NULL REFERENCES runs(id),
        at TEXT NOT NULL,
        kind TEXT NOT NULL,
        data TEXT NOT NULL                -- JSON
    ) STRICT
    """,
    "CREATE INDEX run_events_by_run ON run_events (run, id)",
)

_M005 = (
    """
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
    """,
    """
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
    """,
    "CREATE INDEX jobs_by_status ON jobs (status, number)",
    """
    CREATE TABLE job_events (
        id INTEGER PRIMARY KEY,           -- of one job they grow with time
        job INTEGER NOT NULL REFERENCES jobs(number),
        at TEXT NOT NULL,
        level TEXT NOT NULL CHECK (level IN ('info', 'warn', 'error')),
        message TEXT NOT NULL
    ) STRICT
    """,
    "CREATE INDEX job_events_by_job ON job_events (job, id)",
)

_M001_INTERACTIONS = (
    """
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
    """,
    "CREATE INDEX interactions_by_time ON interactions (at)",
    """
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
    """,
    "CREATE INDEX feedback_by_interaction ON feedback (interaction_id)",
    """
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
    """,
)

# The public id of the API key that asked; NULL where the server wanted none.
_M002_INTERACTIONS = (
    "ALTER TABLE interactions ADD COLUMN key TEXT",
    "ALTER TABLE comparisons ADD COLUMN key TEXT",
)
