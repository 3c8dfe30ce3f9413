"""The store as it began: what it is, and its revisions, which nobody can change."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

REFUSED = "a revision is never changed or removed"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "store_facts",
        sa.Column("name", sa.String(40), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "store_revisions",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("action", sa.String(20), nullable=False),
        sa.Column("tag", sa.String(80), nullable=False),
        sa.Column("calibration", sa.String(80)),
        sa.Column("since", sa.BigInteger),
        sa.Column("until", sa.BigInteger),
        sa.Column("payload", sa.String(64)),
        sa.Column("size", sa.BigInteger),
        sa.Column("files", sa.String(64)),
        sa.Column("origin", sa.BigInteger),
        sa.Column("source", sa.String(80)),
        sa.Column("as_of", sa.BigInteger),
        sa.Column("frozen", sa.Boolean, nullable=False),
        sa.Column("passed", sa.Boolean),
        sa.Column("forced", sa.Boolean, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("config_hash", sa.String(64), nullable=False),
        sa.Column("code_version", sa.String(64), nullable=False),
        sa.Column("made", sa.String(40), nullable=False),
        sa.Column("by", sa.String(200), nullable=False),
    )
    op.create_index("store_revisions_line", "store_revisions", ["tag", "calibration"])
    if op.get_bind().dialect.name == "sqlite":
        for what in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER store_revisions_no_{what.lower()} BEFORE {what}"
                f" ON store_revisions BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END"
            )
    else:
        op.execute(
            "CREATE FUNCTION store_revisions_refuse() RETURNS trigger LANGUAGE plpgsql AS"
            f" $$ BEGIN RAISE EXCEPTION '{REFUSED}'; END $$"
        )
        op.execute(
            "CREATE TRIGGER store_revisions_fixed BEFORE UPDATE OR DELETE OR TRUNCATE"
            " ON store_revisions EXECUTE FUNCTION store_revisions_refuse()"
        )


def downgrade() -> None:
    """Refuse: nothing of a store is ever dropped."""
    raise NotImplementedError("a store keeps everything; restore a copy of the database instead")
