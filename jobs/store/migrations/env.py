"""What alembic runs: the changes of the tables, on the connection that `tables.migrate` gives."""

from alembic import context

from jobs.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table="store_version",
)
with context.begin_transaction():
    context.run_migrations()
