"""Alembic's folder; `Store.migrate` applies what is missing."""
