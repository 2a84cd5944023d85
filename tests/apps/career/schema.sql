-- The integer key of this table is in twenty-five others.
create table users (
    id serial primary key,
    clerk_user_id varchar(255),
    email varchar(255),
    first_name varchar(100),
    last_name varchar(100),
    headline varchar(160) not null default '',
    is_coach boolean not null default false,
    password_hash varchar(255),
    joined_on date not null default current_date
);
create unique index users_clerk_user_id_key on users (clerk_user_id);
create unique index users_lower_email_key on users (lower(email));

create table profiles (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    bio text,
    city varchar(100),
    unique (user_id)
);

create table career_goals (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    goal varchar(200) not null,
    due_on date
);

create table courses (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    title varchar(200) not null
);

create table course_modules (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    course_id integer references courses (id),
    done boolean not null default false
);

create table course_progress (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    course_id integer references courses (id),
    percent smallint not null default 0 check (percent between 0 and 100)
);

create table course_reviews (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    course_id integer references courses (id),
    stars smallint check (stars between 1 and 5)
);

create table course_certificates (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    course_id integer references courses (id),
    issued_at timestamp
);

create table skills (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    name varchar(100) not null,
    level smallint not null default 1,
    unique (user_id, name)
);

create table skill_trees (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    tree jsonb not null default '{}'
);

create table tree_nodes (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    tree_id integer references skill_trees (id) on delete cascade,
    label varchar(100)
);

create table tree_progress (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    tree_id integer references skill_trees (id) on delete cascade,
    unlocked integer[] not null default '{}'
);

create table conversations (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    subject varchar(200)
);

create table messages (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    conversation_id integer references conversations (id) on delete cascade,
    body text not null
);

create table tool_calls (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    message_id integer references messages (id) on delete cascade,
    arguments jsonb not null default '{}'
);

create table saved_recommendations (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    recommendation jsonb not null
);

create table saved_jobs (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    job_ref varchar(64) not null
);

create table saved_searches (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    query text not null
);

create table job_applications (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    state varchar(20) not null default 'draft'
);

create table resumes (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    body text
);

create table assessments (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    score numeric(5, 2)
);

create table assessment_answers (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    assessment_id integer references assessments (id),
    answer text
);

create table notifications (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    seen_at timestamp,
    text varchar(500) not null
);

create table notification_settings (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    by_mail boolean not null default true,
    unique (user_id)
);

create table badges (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    badge varchar(50) not null
);

create table peers (
    id serial primary key,
    user_id integer not null references users (id) on delete cascade,
    peer_id integer not null references users (id) on delete cascade,
    check (user_id <> peer_id),
    unique (user_id, peer_id)
);
