"""Random users tables for Hypothesis: names, types, defaults, constraints, rows, and a table that refers to them."""

from dataclasses import dataclass

from hypothesis import strategies as st

from sync_service.postgres.sql import quote_ident, quote_literal, quote_table

# Each type with two literals, of the first and the second row, and its default.
TYPES = {
    "text": ("'a'", "'b'", "'free'"),
    "varchar(4)": ("'a'", "'b'", "'x'"),
    "varchar(200)": ("'a'", "'b'", "''"),
    "char(2)": ("'de'", "'en'", "'en'"),
    "integer": ("1", "2", "0"),
    "bigint": ("1700000000000", "1700000000001", "7"),
    "numeric(8, 2)": ("1.5", "2.5", "0"),
    "double precision": ("0.5", "1.5", "0"),
    "boolean": ("true", "false", "false"),
    "date": ("'2020-01-01'", "'2020-01-02'", "current_date"),
    "timestamp(3)": ("'2020-01-01'", "'2020-01-02'", "now()"),
    "timestamptz": ("'2020-01-01Z'", "'2020-01-02Z'", "now()"),
    "uuid": ("'7c9e6679-7425-40de-944b-e07fc1f90ae7'", "'9f8b6a1c-1c2d-4e3f-8a4b-5c6d7e8f9a0b'", "gen_random_uuid()"),
    "jsonb": ("""'{"a": 1}'""", "'{}'", "'{}'"),
    "text[]": ("'{a}'", "'{}'", "'{}'"),
    "mood": ("'calm'", "'gone'", "'calm'"),
    "short_text": ("'a'", "'b'", "'x'"),
    "bytea": ("'a'", "'b'", "''"),
    "inet": ("'10.0.0.1'", "'10.0.0.2'", "'10.0.0.3'"),
    "interval": ("'1 day'", "'2 days'", "'0'"),
}
TYPES_SQL = (
    "create type mood as enum ('calm', 'wild', 'gone'); create domain short_text as text check (length(value) < 4000)"
)

# A key's type with its default, and the keys of the two rows.
KEYS = {
    "serial": ("101", "102"),
    "bigint generated always as identity": ("default", "default"),
    "integer": ("5", "9"),
    "uuid default gen_random_uuid()": TYPES["uuid"][:2],
    "uuid": TYPES["uuid"][:2],
    "text": ("'clw0q3k9h000008l4e7xk2b1m'", "'clw0q9zt1000108l45m2w8c3n'"),
    "varchar(30)": ("'usr_w7Qe2LmXk9Tz'", "'usr_pD3hXs8JvKc0'"),
}

# Names that mean something, in several styles, and others.
NAMES = (
    *("email", "emailAddress", "name", "full_name", "firstName", "last_name", "username", "handle", "phone", "image"),
    *("avatar_url", "banned", "locked", "is_active", "is_deleted", "is_superuser", "status", "role", "plan", "locale"),
    *("created_at", "createdAt", "updated_at", "updatedAt", "deleted_at", "last_login", "lastSignInAt", "password"),
    *("settings", "tags", "bio", "token", "external_id", "company_id", "birth_date", "version", "order", "sort name"),
    *('quo"ted', "Ünïcode", "public_metadata", "login_count", "email_verified", "user_id", "slug", "x" * 63),
)
TABLES = ("users", "User", "accounts", "app_user", "members", "profiles", 'my "users"', "customers")
CLERK_IDS = ("clerk_id", "clerkUserId", "auth_ref", "external_auth_id", "clerk user")
ACTIONS = ("cascade", "restrict", "no action", "set null")

EXISTING = ("user_2randomExisting0000000001", "user_2randomExisting0000000002")


@dataclass(frozen=True)
class RandomColumn:
    """A column of the application."""

    name: str
    type: str
    not_null: bool
    has_default: bool
    unique: bool

    @property
    def sql(self) -> str:
        default = f" default {TYPES[self.type][2]}" if self.has_default else ""
        # A second row with a constant default would break the rule, whichever program inserts it.
        is_unique = self.unique and (not default or self.type == "uuid")
        return f"{quote_ident(self.name)} {self.type}{default}{' not null' * self.not_null}{' unique' * is_unique}"


@dataclass(frozen=True)
class RandomSchema:
    """A users table with up to two rows, and a child table."""

    schema: str
    table: str
    key: str
    clerk_id: str
    clerk_id_required: bool
    columns: tuple[RandomColumn, ...]
    rows: int
    child: str | None

    @property
    def name(self) -> str:
        """The table, quoted for SQL."""
        return quote_table(self.schema, self.table)

    @property
    def statements(self) -> list[str]:
        """The SQL that creates it all."""
        clerk_id = f"{quote_ident(self.clerk_id)} text unique{' not null' * self.clerk_id_required}"
        columns = ", ".join([f"id {self.key} primary key", clerk_id, *(column.sql for column in self.columns)])
        made = [TYPES_SQL, f"create table {self.name} ({columns})"]
        if self.child:
            key = self.key.split(" ", maxsplit=1)[0].replace("serial", "integer")
            made.append(f"create table children (id serial, owner {key} references {self.name} on delete {self.child})")
        return [*made, *map(self._insert, range(self.rows))]

    def _insert(self, row: int) -> str:
        values = [KEYS[self.key][row], quote_literal(EXISTING[row])]
        values += [TYPES[column.type][row] for column in self.columns]
        return f"insert into {self.name} values ({', '.join(values)})"


COLUMNS = st.builds(
    RandomColumn,
    name=st.sampled_from(NAMES),
    type=st.sampled_from(list(TYPES)),
    not_null=st.booleans(),
    has_default=st.booleans(),
    unique=st.integers(0, 5).map(lambda number: number == 0),
)
SCHEMAS = st.builds(
    RandomSchema,
    schema=st.sampled_from(["public", "app"]),
    table=st.sampled_from(TABLES),
    key=st.sampled_from(list(KEYS)),
    clerk_id=st.sampled_from(CLERK_IDS),
    clerk_id_required=st.booleans(),
    columns=st.lists(COLUMNS, max_size=9, unique_by=lambda column: column.name).map(tuple),
    rows=st.integers(0, 2),
    child=st.sampled_from([None, *ACTIONS]),
)
