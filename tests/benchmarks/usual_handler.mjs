// The usual handler on Node.js: Express, svix and pg, with the tables and columns of the usual handler in references.py.
// The argument is the folder of the packages. Its settings come from the environment.
import { createRequire } from "node:module";

const load = createRequire(`${process.argv[2]}/`);
const express = load("express");
const { Pool } = load("pg");
const { Webhook } = load("svix");

const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
const webhook = new Webhook(process.env.CLERK_WEBHOOK_SIGNING_SECRET);

const COLUMNS = [
  ...["id", "email", "email_verified", "phone", "username", "first_name", "last_name", "image_url", "external_id"],
  ...["banned", "locked", "public_metadata", "last_sign_in_at", "created_at", "updated_at"],
];
const places = COLUMNS.map((_, index) => `$${index + 1}`);
const changes = COLUMNS.slice(1).map((name) => `${name} = excluded.${name}`);

// pg prepares a statement that has a name once for each connection, as asyncpg does with every statement.
const INSERT_EVENT = {
  name: "insert_event",
  text: "insert into node_events (id, type, payload) values ($1, $2, $3) on conflict do nothing",
};
const UPSERT_USER = {
  name: "upsert_user",
  text: `insert into node_users (${COLUMNS}) values (${places}) on conflict (id) do update set ${changes}`,
};
const DELETE_USER = { name: "delete_user", text: "delete from node_users where id = $1" };

const toDate = (milliseconds) => milliseconds && new Date(milliseconds);

function toValues(user) {
  const email = user.email_addresses.find(({ id }) => id === user.primary_email_address_id);
  const phone = user.phone_numbers.find(({ id }) => id === user.primary_phone_number_id);
  return [
    user.id,
    email?.email_address,
    email?.verification?.status === "verified",
    phone?.phone_number,
    ...[user.username, user.first_name, user.last_name, user.image_url, user.external_id, user.banned, user.locked],
    user.public_metadata,
    ...[user.last_sign_in_at, user.created_at, user.updated_at].map(toDate),
  ];
}

async function store(id, event, payload) {
  const client = await pool.connect();
  try {
    await client.query("begin");
    await client.query(INSERT_EVENT, [id, event.type, payload]);
    if (event.type === "user.deleted") {
      await client.query(DELETE_USER, [event.data.id]);
    } else {
      await client.query(UPSERT_USER, toValues(event.data));
    }
    await client.query("commit");
  } catch (error) {
    await client.query("rollback");
    throw error;
  } finally {
    client.release();
  }
}

const app = express();
app.post("/usual", express.raw({ type: "application/json" }), async (request, response) => {
  const payload = request.body.toString();
  const event = webhook.verify(payload, request.headers);
  await store(request.headers["svix-id"], event, payload);
  response.status(204).end();
});
app.listen(Number(process.env.PORT), "127.0.0.1");
