"""What the database says when it does not do what it should, in one line for a user."""

from __future__ import annotations

from sqlalchemy.exc import SQLAlchemyError

LONGEST = 300  # characters


def reason(error: SQLAlchemyError) -> str:
    """The driver's words, without SQL, links and passwords."""
    said = getattr(error, "orig", None) or error.args[0] if error.args else error
    return " ".join(str(said).split())[:LONGEST] or type(error).__name__


def is_of_url(error: SQLAlchemyError) -> bool:
    """Whether another URL would help, and waiting would not: a SQLite file that cannot be."""
    return getattr(getattr(error, "orig", None), "sqlite_errorname", None) == "SQLITE_CANTOPEN"
