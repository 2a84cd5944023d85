"""The decisions of `mapping suggest`: keys, sources, fillers, times, deletion, the table. No database is needed."""

from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sync_service.mapping.introspection import Column
from sync_service.mapping.toml import parse_mapping
from sync_service.mapping.validation import blocking_issues, partial_issues
from sync_service.suggest.clerk_ids import choose_clerk_id
from sync_service.suggest.columns import decide_columns
from sync_service.suggest.deletion import decide_deletion
from sync_service.suggest.evidence import Check, ColumnRows, Evidence, Trigger, find_refusals
from sync_service.suggest.key_formats import find_generator
from sync_service.suggest.links import Link, find_link
from sync_service.suggest.names import split_words
from sync_service.suggest.overview import IdCount, Reference
from sync_service.suggest.rendering import list_unsolved, render_suggestion
from sync_service.suggest.rules import Decision
from sync_service.suggest.tables import list_candidates
from tests.suggestions import count_labels, make_column, make_facts, make_index, make_overview

USERS = IdCount(values=3, different=3, users=3, others=0)
NOW_ONCE = {"generate": "now", "write": "insert"}


def decide(facts: Evidence) -> Decision:
    """Return the decision about the last column."""
    return list(decide_columns(facts).values())[-1]


def constant(value: Any) -> dict[str, Any]:
    return {"constant": value, "write": "insert"}


# --- keys ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "generator"),
    [
        (["7c9e6679-7425-40de-944b-e07fc1f90ae7"], "uuid4"),
        (["0190163d-8694-739b-aea5-966c26f8ad91"], "uuid7"),
        (["01ARZ3NDEKTSV4RRFFQ69G5FAV"], "ulid"),
        (["clw0q3k9h000008l4e7xk2b1m", "clw0q9zt1000108l45m2w8c3n"], "cuid"),
        (["tz4a98xxat96iws9zmbrgj3a", "pfh0haxfpzowht3oi213cqos"], "cuid2"),
        (["V1StGXR8_Z5jdHi6B-myT"], "nanoid"),
        (["w7Qe_2LmXk-9", "pD3-hXs8Jv_K"], "nanoid(12)"),
        (["usr_V1StGXR8_Z5jdHi6B-myT", "usr_w7Qe_2LmXk-9TzRb4VnYd"], "usr_{nanoid}"),
        (["usr_V1StGXR8_Z5jdHi6B-myT"], "usr_{nanoid}"),
        (["acct-01ARZ3NDEKTSV4RRFFQ69G5FAV", "acct-01BX5ZZKBKACTAV9WEVGEMMVRZ"], "acct-{ulid}"),
        (["sk_live_Ab3dEf9hJkLm0pQr5tUv", "sk_live_Zz8yXw7vQ1aBcD3eF4gH"], "sk_live_{nanoid(20)}"),
        (["usr_Ab_3dEf9hJk", "usr_Zz_8yXw7vQ1"], "usr_{nanoid(11)}"),
        (["clw0q3k9h000008l4e7xk2b1m", "clw0q9zt1000108l45m2w8c3n", "admin"], "cuid"),
        (["507f1f77bcf86cd799439011"], None),  # an ID of MongoDB, which no generator makes
        (["10000001", "10000002"], None),
        (["admin", "anna", "bob"], None),
        (["anneliese", "christian"], None),
        ([], None),
    ],
)
def test_the_format_of_keys_selects_the_generator(keys: list[str], generator: str | None) -> None:
    assert find_generator(keys) == generator


def keyed(base: str = "text", length: int | None = None, **facts: Any) -> Evidence:
    """Return the facts about a table whose key has no default."""
    usual = make_facts()
    columns = (make_column("id", base, length=length, not_null=True), *usual.table.columns[1:])
    return make_facts(**facts, table=type(usual.table)(**{**_asdict(usual.table), "columns": columns}))


def _asdict(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


CUIDS = ("clw0q3k9h000008l4e7xk2b1m", "clw0q9zt1000108l45m2w8c3n")


@pytest.mark.parametrize(
    ("facts", "spec", "reason"),
    [
        (keyed(keys={"id": CUIDS}), {"generate": "cuid"}, "format of the 2 keys"),
        (keyed(other_keys=CUIDS), {"generate": "cuid"}, "its other tables' keys"),
        (keyed(framework="Prisma"), {"generate": "cuid"}, "a guess"),
        (keyed(length=30, framework="Prisma"), {"generate": "cuid"}, "a guess"),
        (keyed(length=26), {"generate": "ulid"}, "a guess"),
        (keyed(length=12), {"generate": "nanoid(12)"}, "a guess"),
        (keyed(length=4), None, "too short"),
        (keyed("uuid"), {"generate": "uuid4"}, "no row shows its version"),
        (keyed(keys={"id": ("a", "b")}), None, "no generator"),
        (keyed("int4"), None, "sync-service doctor prints the SQL"),
        (keyed(references=(Reference(("id",), "auth", "users", "c"),)), None, "a row of auth.users"),
    ],
)
def test_a_key_without_a_default_is_generated_or_reported(facts: Evidence, spec: Any, reason: str) -> None:
    decision = decide_columns(facts)["id"]
    assert decision.spec == spec
    assert reason in decision.reason
    assert decision.unsolved is (spec is None)


def test_a_key_of_the_database_stays_its_own() -> None:
    assert decide_columns(make_facts())["id"].spec is None


# --- columns that Clerk owns --------------------------------------------------------------------------------------

PLACEHOLDER = {"from": "primary_email", "when_null": "{clerk_id}@users.invalid"}


@pytest.mark.parametrize(
    ("column", "spec"),
    [
        (make_column("ownerEmail"), "primary_email"),
        (make_column("work_email"), "primary_email"),
        (make_column("email", not_null=True), PLACEHOLDER),
        (make_column("email", length=40, not_null=True), PLACEHOLDER | {"when_null": "{clerk_id}"}),
        (make_column("billing_email"), None),
        (make_column("billing_email", not_null=True), {"from": "primary_email", "when_null": "", "write": "insert"}),
        (make_column("contact_email", not_null=True), PLACEHOLDER),
        (make_column("first"), None),
        (make_column("status", length=4, not_null=True), {"constant": "", "write": "insert"}),
        (make_column("avatar_src"), "image_url"),
        (make_column("photo_url", not_null=True), {"from": "image_url", "when_null": "", "on_null": "keep"}),
        (make_column("user_first_name"), "first_name"),
        (make_column("account_name"), None),
        (make_column("picture", not_null=True, has_default=True), {"from": "image_url", "on_null": "keep"}),
        (make_column("username", length=20, not_null=True), {"generate": "nanoid(20)", "write": "insert"}),
        (make_column("username", length=4, not_null=True), None),
        (make_column("full_name", not_null=True), {"from": "full_name", "when_null": "", "on_null": "keep"}),
        (make_column("name", not_null=True, has_default=True), {"from": "full_name", "on_null": "keep"}),
        (make_column("username"), {"from": "username", "on_null": "keep"}),
        (make_column("username", not_null=True, has_default=True), None),
        (make_column("handle"), {"from": "username", "write": "insert"}),
        (make_column("is_email_verified", "bool"), "primary_email_verified"),
        (make_column("emailVerified", "timestamp"), None),
        (make_column("banned", "bool"), "banned"),
        (make_column("banned", "bool", not_null=True, has_default=True), None),
        (make_column("publicMetadata", "jsonb"), "public_metadata"),
        (make_column("email", generated=True), None),
    ],
)
def test_a_column_of_clerk_is_mapped_by_its_name_and_type(column: Column, spec: Any) -> None:
    assert decide(make_facts(column)).spec == spec


def test_an_existing_value_of_the_app_is_kept_where_clerk_has_none() -> None:
    name = make_column("first_name")
    assert decide(make_facts(name)).spec == "first_name"
    facts = make_facts(name, columns={"first_name": ColumnRows(values=2)})
    assert decide(facts).spec == {"from": "first_name", "on_null": "keep"}


def test_a_required_username_is_unique_or_may_be_the_local_part() -> None:
    column = make_column("username", not_null=True)
    spec = {"from": ["username", "email_local_part"], "when_null": "{clerk_id}", "write": "insert"}
    assert decide(make_facts(column)).spec == spec
    assert decide(make_facts(column, unique=("username",))).spec == spec | {"from": "username"}


def test_a_short_unique_phone_without_null_cannot_be_guessed() -> None:
    phone = make_column("phone", length=20, not_null=True)
    assert decide(make_facts(phone)).spec == {"from": "primary_phone", "when_null": "", "on_null": "keep"}
    assert decide(make_facts(phone, unique=("phone",))).unsolved


def test_a_required_username_with_a_constraint_is_generated_in_small_letters() -> None:
    check = Check(("username",), "CHECK ((username ~ '^[a-z0-9_]+$'::text))")
    spec = {"generate": "cuid2", "write": "insert"}
    assert decide(make_facts(make_column("username", not_null=True), checks=(check,))).spec == spec


def test_first_and_last_are_names_where_a_table_has_both() -> None:
    decisions = decide_columns(make_facts(make_column("first"), make_column("last")))
    assert (decisions["first"].spec, decisions["last"].spec) == ("first_name", "last_name")


def test_a_required_column_that_a_trigger_fills_needs_no_rule() -> None:
    decision = decide(make_facts(make_column("slug", not_null=True, filled_by="make_slug")))
    assert (decision.spec, decision.unsolved, decision.reason) == (None, False, "the trigger make_slug fills it")


@pytest.mark.parametrize(("labels", "number"), [({"25": 2, "70": 1}, 25), ({"25": 1, "70": 1}, 0), ({}, 0)])
def test_a_number_that_most_rows_share_is_that_of_a_new_row(labels: dict[str, int], number: int) -> None:
    points = make_column("credits", "int4", not_null=True)
    assert decide(make_facts(points, columns={"credits": count_labels(**labels)})).spec == constant(number)


def test_a_flag_that_a_row_shows_set_is_the_app_s() -> None:
    facts = make_facts(make_column("locked", "bool", not_null=True), columns={"locked": count_labels(true=1, false=9)})
    assert decide(facts).spec == constant(value=False)


def test_a_second_column_with_one_source_is_filled_once_or_left() -> None:
    facts = make_facts(make_column("name"), make_column("displayName"))
    assert decide(facts).spec is None
    facts = make_facts(make_column("name"), make_column("displayName", not_null=True))
    assert decide(facts).spec == {"from": "full_name", "when_null": "", "write": "insert"}


def test_an_empty_name_that_a_constraint_may_refuse_becomes_the_clerk_id() -> None:
    check = Check(("full_name",), "CHECK ((length(full_name) > 0))")
    assert decide(make_facts(make_column("full_name", not_null=True), checks=(check,))).spec == {
        "from": "full_name",
        "when_null": "{clerk_id}",
        "on_null": "keep",
    }


# --- values that the ORM fills ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "spec"),
    [
        (make_column("hashed_password"), constant("!")),
        (make_column("encryptedPassword"), constant("!")),
        (make_column("is_superuser", "bool"), constant(value=False)),
        (make_column("is_active", "bool"), constant(value=True)),
        (make_column("marketing_consent", "bool"), constant(value=False)),
        (make_column("two_factor_enabled", "bool"), constant(value=False)),
        (make_column("accountNonLocked", "bool"), constant(value=True)),
        (make_column("active", "int4"), constant(1)),
        (make_column("company_id", "int4"), None),
        (make_column("login_count", "int4"), constant(0)),
        (make_column("preferences", "jsonb"), constant({})),
        (make_column("tags", "_text"), constant([])),
        (make_column("bio"), constant("")),
        (make_column("locale"), constant("en")),
        (make_column("timezone"), constant("UTC")),
        (make_column("role"), constant("user")),
        (make_column("last_seen_at", "timestamptz"), NOW_ONCE),
        (make_column("date_of_birth", "date"), None),
        (make_column("stamp", "uuid"), {"generate": "uuid4", "write": "insert"}),
        (make_column("network", "inet"), None),
        (make_column("role", "enum", labels=("ADMIN", "EDITOR", "MEMBER")), constant("MEMBER")),
        (make_column("status", "enum", labels=("invited", "active", "deleted")), constant("active")),
        (make_column("kind", "enum", labels=("red", "blue")), constant("red")),
    ],
)
def test_a_required_column_is_filled_on_insert_or_reported(column: Column, spec: Any) -> None:
    required = type(column)(**(_asdict(column) | {"not_null": True}))
    decision = decide(make_facts(required))
    assert decision.spec == spec
    assert decision.unsolved is (spec is None)


@pytest.mark.parametrize(
    ("column", "rows", "spec"),
    [
        (make_column("is_superuser", "bool"), count_labels(true=9), constant(value=False)),
        (make_column("notify_by_mail", "bool"), count_labels(true=8, false=1), constant(value=True)),
        (make_column("role"), count_labels(admin=9, member=1), constant("member")),
        (make_column("role"), count_labels(admin=9), None),
        (make_column("plan"), count_labels(PRO=9, FREE=1), constant("FREE")),
        (make_column("status"), count_labels(suspended=9, active=1), constant("active")),
        (make_column("locale"), count_labels(de=5, en=1), constant("de")),
        (make_column("status", "int4"), ColumnRows(6, {"2": 5, "0": 1}), constant(2)),
        (make_column("settings", "jsonb"), count_labels(array=5), constant([])),
    ],
)
def test_rows_select_the_value_of_a_new_user_without_rights(column: Column, rows: ColumnRows, spec: Any) -> None:
    required = type(column)(**(_asdict(column) | {"not_null": True}))
    assert decide(make_facts(required, columns={column.name: rows})).spec == spec


@pytest.mark.parametrize(
    ("column", "definition", "spec"),
    [
        (make_column("tier"), "CHECK ((tier = ANY (ARRAY['pro'::text, 'free'::text])))", constant("free")),
        (make_column("tier"), "CHECK (((tier = 'pro'::text) OR (tier = 'free'::text)))", constant("free")),
        (make_column("nick"), "CHECK (((nick <> 'root'::text) AND (nick <> 'free'::text)))", None),
        (make_column("level", "int4"), "CHECK ((level = ANY (ARRAY[3, 4])))", constant(3)),
        (make_column("level", "int4"), "CHECK ((level >= 1))", constant(1)),
        (make_column("level", "int4"), "CHECK ((level > 1))", constant(2)),
        (make_column("iban"), "CHECK ((iban ~ '^[A-Z]{2}'::text))", None),
    ],
)
def test_a_check_constraint_is_respected(column: Column, definition: str, spec: Any) -> None:
    required = type(column)(**(_asdict(column) | {"not_null": True}))
    assert decide(make_facts(required, checks=(Check((column.name,), definition),))).spec == spec


def test_a_unique_code_is_random_in_the_format_of_existing_ones() -> None:
    column = make_column("referral_code", not_null=True, length=12)
    assert decide(make_facts(column, unique=("referral_code",))).spec == {"generate": "nanoid(12)", "write": "insert"}
    keys = {"referral_code": ("Ab3dEf9h", "Zz8yXw7v")}
    facts = make_facts(column, unique=("referral_code",), keys=keys)
    assert decide(facts).spec == {"generate": "nanoid(8)", "write": "insert"}


def test_a_required_reference_is_the_common_row_of_a_lookup_table_or_reported() -> None:
    column = make_column("role_id", "int4", not_null=True)
    references = (Reference(("role_id",), "public", "roles", "a"),)
    rows = {"role_id": ColumnRows(values=4, labels={"2": 3, "1": 1})}
    assert decide(make_facts(column, references=references, columns=rows)).spec == constant(2)
    assert decide(make_facts(column, references=references)).unsolved
    column = make_column("company_id", "int4", not_null=True)
    references = (Reference(("company_id",), "public", "companies", "a"),)
    rows = {"company_id": ColumnRows(values=4, labels={"2": 3, "1": 1})}
    assert "a row of public.companies" in decide(make_facts(column, references=references, columns=rows)).reason


def test_a_category_that_every_row_has_is_filled_without_not_null() -> None:
    column = make_column("is_active", "bool")
    assert decide(make_facts(column)).spec is None
    facts = make_facts(column, rows=3, columns={"is_active": count_labels(true=3)})
    assert decide(facts).spec == constant(value=True)


# --- times --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "facts", "spec"),
    [
        (make_column("created_at", "timestamptz", not_null=True), {}, NOW_ONCE),
        (make_column("date_joined", "timestamptz", not_null=True), {}, NOW_ONCE),
        (make_column("createdAt", "timestamptz", has_default=True), {}, None),
        (make_column("created_at", "timestamptz"), {}, None),
        (make_column("created_at", "timestamptz"), {"columns": {"created_at": ColumnRows(values=1)}}, NOW_ONCE),
        (make_column("created_at", "int8", not_null=True), {}, {"from": "created_at", "write": "insert"}),
        (make_column("updated_at", "int8", not_null=True), {}, "updated_at"),
        (make_column("updatedAt", "timestamp", not_null=True, has_default=True), {}, {"generate": "now"}),
        (make_column("updated_at", "timestamp", has_default=True), {}, None),
        (make_column("updated_at", "timestamp"), {"framework": "Go"}, {"generate": "now"}),
        (
            make_column("updated_at", "timestamp", has_default=True),
            {"columns": {"updated_at": ColumnRows(values=2, later=1)}},
            {"generate": "now"},
        ),
        (make_column("last_sign_in_at", "timestamptz"), {}, "last_sign_in_at"),
        (make_column("lastLoginAt", "timestamptz"), {"columns": {"lastLoginAt": ColumnRows(values=1)}}, None),
        (
            make_column("last_login", "timestamptz", not_null=True),
            {},
            {"from": ["last_sign_in_at", "created_at"]},
        ),
        (make_column("lastActiveAt", "timestamptz"), {}, None),
    ],
)
def test_times_of_the_row_are_the_app_s(column: Column, facts: dict[str, Any], spec: Any) -> None:
    assert decide(make_facts(column, **facts)).spec == spec


def test_a_time_that_a_trigger_sets_is_written_on_insert_at_most() -> None:
    trigger = Trigger("touch", before=True, on_insert=False, on_update=True, source="NEW.updated_at = now();")
    column = make_column("updated_at", "timestamptz", not_null=True, has_default=True)
    assert decide(make_facts(column, triggers=(trigger,))).spec is None
    column = make_column("updated_at", "timestamptz", not_null=True)
    assert decide(make_facts(column, triggers=(trigger,))).spec == NOW_ONCE


# --- deletion -----------------------------------------------------------------------------------------------------

DELETED_AT = make_column("deleted_at", "timestamptz")
IS_ACTIVE = make_column("is_active", "bool")
NOW = {"generate": "now"}


@pytest.mark.parametrize(
    ("column", "facts", "marks"),
    [
        (DELETED_AT, {}, {}),
        (DELETED_AT, {"columns": {"deleted_at": ColumnRows(values=1)}}, {"deleted_at": NOW}),
        (DELETED_AT, {"refusals": {"public.orders": "RESTRICT"}}, {"deleted_at": NOW}),
        (make_column("isDeleted", "bool"), {"columns": {"isDeleted": count_labels(true=1)}}, {"isDeleted": True}),
        (IS_ACTIVE, {"columns": {"is_active": count_labels(true=5)}}, {}),
        (IS_ACTIVE, {"columns": {"is_active": count_labels(false=1, true=5)}}, {"is_active": False}),
        (IS_ACTIVE, {"refusals": {"public.orders": "NO ACTION"}}, {"is_active": False}),
        (make_column("status", "enum", labels=("ACTIVE", "DELETED")), {}, {"status": "DELETED"}),
        (make_column("status", "enum", labels=("ACTIVE", "SUSPENDED")), {}, {}),
        (make_column("status"), {"columns": {"status": count_labels(active=3, closed=1)}}, {"status": "closed"}),
        (make_column("status"), {"columns": {"status": count_labels(active=3, inactive=1)}}, {}),
    ],
)
def test_the_app_s_own_way_to_delete_is_used(column: Column, facts: dict[str, Any], marks: dict[str, Any]) -> None:
    deletion = decide_deletion(make_facts(column, **facts))
    assert deletion.marks == marks
    assert deletion.on_delete == ("soft" if marks else "cascade")


def test_an_index_without_deleted_rows_shows_that_the_app_uses_the_mark() -> None:
    table = make_facts(DELETED_AT).table
    index = make_index("clerk_id", predicate="(deleted_at IS NULL)")
    used = type(table)(**(_asdict(table) | {"indexes": (*table.indexes, index)}))
    assert decide_deletion(make_facts(table=used)).marks == {"deleted_at": NOW}


def test_a_foreign_key_that_refuses_is_reported_with_the_choices() -> None:
    deletion = decide_deletion(make_facts(refusals={"public.recipes": "RESTRICT"}))
    assert (deletion.on_delete, deletion.marks) == ("cascade", {})
    assert "public.recipes" in deletion.reason
    assert any("anonymize" in remark for remark in deletion.remarks)


def test_a_refusal_is_found_below_a_cascade() -> None:
    overview = make_overview({"users": "id#!", "hives": "id#! user_id>users", "visits": "hive_id>hives"})
    users, hives, visits = overview.tables
    assert find_refusals(overview, users) == {}
    refusing = Reference(("hive_id",), "public", "hives", "r")
    visits = type(visits)(**(_asdict(visits) | {"references": (refusing,)}))
    assert find_refusals(type(overview)([users, hives, visits], {}), users) == {"public.visits": "RESTRICT"}


# --- the table and its column of the Clerk ID ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tables", "ids", "chosen"),
    [
        ({"users": "id! email", "messages": "id#! clerk_id"}, {}, ("users", "id")),
        ({"singers": "id! auth_ref* email_address"}, {"singers.auth_ref": USERS}, ("singers", "auth_ref")),
        ({"players": "id! email"}, {"players.id": USERS}, ("players", "id")),
        ({"accounts_user": "id#! clerk_uuid* email"}, {}, ("accounts_user", "clerk_uuid")),
        (
            {"merchants": "id#! external_auth_id email", "orders": "id#! merchant_id>merchants"},
            {},
            ("merchants", "external_auth_id"),
        ),
        ({"feeds": "id#! external_id* email"}, {}, None),
        ({"feeds": "id#! external_id* email"}, {"feeds.external_id": USERS}, ("feeds", "external_id")),
        (
            {"organizations": "id#! clerk_id* email", "users": "id#! clerk_id* org_id>organizations"},
            {"organizations.clerk_id": IdCount(2, 2, 0, 2), "users.clerk_id": USERS},
            ("users", "clerk_id"),
        ),
        (
            {"users": "id#! email clerk_id*", "profiles": "id! clerk_id* email user_id>users"},
            {"users.clerk_id": USERS, "profiles.clerk_id": USERS},
            ("users", "clerk_id"),
        ),
        (  # many rows for one user
            {"orders": "id#! user_id email"},
            {"orders.user_id": IdCount(values=5, different=2, users=5, others=0)},
            None,
        ),
        ({"guests": "id#! account_key email"}, {"guests.account_key": USERS}, ("guests", "account_key")),
        ({"notes": "id#! created_by email"}, {"notes.created_by": USERS}, None),
        ({"orders": "id#! total#", "accounts": "id#! balance#"}, {}, None),
        ({"users": "id#! auth_id* email"}, {"users.auth_id": IdCount(3, 3, 0, 0)}, ("users", None)),
    ],
)
def test_the_table_and_its_column_of_the_clerk_id_are_chosen(
    tables: dict[str, str], ids: dict[str, IdCount], chosen: tuple[str, str | None] | None
) -> None:
    candidates = list_candidates(make_overview(tables, ids))
    first = candidates[0] if candidates else None
    assert (first and (first.table.name, first.clerk_id and first.clerk_id.column)) == chosen


def test_the_table_of_the_clerk_ids_beside_the_users_is_a_link() -> None:
    tables = {"users": "id#! email", "logins": "subject! user_id>users", "races": "id#! user_id>users"}
    overview = make_overview(tables, {"logins.subject": USERS})
    users = overview.tables[0]
    assert choose_clerk_id(overview, users) is None
    link = find_link(overview, users)
    assert link
    assert link == Link("public", "logins", "subject", link_column="user_id", user_column="id")
    assert find_link(make_overview({"users": "id#! email", "races": "id#! user_id>users"}), users) is None


def test_a_link_may_be_the_parent_or_hold_the_ids_of_other_providers() -> None:
    tables = {"users": "id#! email identity_id>identities", "identities": "id#! clerk_id*"}
    overview = make_overview(tables, {"identities.clerk_id": USERS})
    [found, *_] = list_candidates(overview)
    assert (found.table.name, found.clerk_id) == ("users", None)
    link = find_link(overview, found.table)
    assert link == Link("public", "identities", "clerk_id", link_column="id", user_column="identity_id")
    tables = {"users": "id#! email", "user_logins": "id#! provider_user_id user_id>users"}
    overview = make_overview(tables, {"user_logins.provider_user_id": IdCount(9, 9, 2, 0)})
    assert find_link(overview, overview.tables[0])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("clerk_user_id", ("clerk", "user", "id")),
        ("lastActiveAt", ("last", "active", "at")),
        ("HTTPServer2", ("http", "server", "2")),
        ("OWNER-email", ("owner", "email")),
    ],
)
def test_names_are_split_into_words(name: str, words: tuple[str, ...]) -> None:
    assert split_words(name) == words


# --- any table ----------------------------------------------------------------------------------------------------

COLUMN_NAMES = (
    *("email", "ownerEmail", "name", "username", "phone", "avatar", "status", "role", "plan", "is_active", "banned"),
    *(
        "created_at",
        "updatedAt",
        "last_login",
        "deleted_at",
        "password",
        "settings",
        "code",
        'a "b".c',
        "x\ny",
        "größe",
    ),
)
BASES = ("text", "varchar", "bool", "int4", "int8", "timestamptz", "date", "_text", "jsonb", "uuid", "inet", "enum")
LABELS = st.lists(st.text("ab'{}\n", min_size=1, max_size=4), max_size=3).map(tuple)

columns = st.builds(
    lambda name, base, length, labels, not_null, has_default, generated: make_column(
        name,
        base,
        length=length if base == "varchar" else None,
        labels=labels if base == "enum" else (),
        not_null=not_null,
        has_default=has_default or generated,
        generated=generated,
    ),
    st.sampled_from(COLUMN_NAMES),
    st.sampled_from(BASES),
    st.sampled_from([4, 10, 25, 40, 255]),
    LABELS,
    st.booleans(),
    st.booleans(),
    st.sampled_from([False, False, False, True]),
)
rows = st.builds(
    ColumnRows,
    st.integers(0, 9),
    st.dictionaries(st.text("ab'\n", min_size=1, max_size=4), st.integers(1, 9), max_size=3),
    st.integers(0, 2),
)


@given(st.lists(columns, max_size=8, unique_by=lambda column: column.name), st.data())
@hypothesis.settings(max_examples=60, deadline=None)
def test_any_table_gets_a_mapping_that_fits_it(found: list[Column], data: st.DataObject) -> None:
    """The text is valid, each required column has a rule or a reason, and no rule misfits its column."""
    names = [column.name for column in found]
    facts = make_facts(
        *found,
        unique=tuple(name for name in names if data.draw(st.booleans())),
        rows=data.draw(st.integers(0, 9)),
        columns={name: data.draw(rows) for name in names},
        keys={name: data.draw(st.lists(st.text(max_size=30), max_size=3).map(tuple)) for name in names},
        framework=data.draw(st.sampled_from([None, "Prisma"])),
        refusals=data.draw(st.sampled_from([{}, {"public.orders": "RESTRICT"}])),
    )
    mapping = parse_mapping(render_suggestion(facts))
    assert mapping.id_column == "clerk_id"
    issues = {issue.code for issue in blocking_issues(mapping, facts.table)}
    assert issues <= {"no_privilege"}
    unsolved = {issue.column for issue in partial_issues(mapping, facts.table)}
    assert unsolved == set(list_unsolved(facts))
