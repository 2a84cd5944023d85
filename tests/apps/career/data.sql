-- Years before Clerk: nobody has a Clerk ID, addresses are as people typed them.
insert into users (id, email, first_name, headline, is_coach, password_hash, joined_on) values
    (101, 'Ada.PII_SENTINEL@Example.com', 'Ada', 'Analyst', true, 'hash', '2019-03-01'),
    (102, 'grace.PII_SENTINEL@example.com', 'Grace', 'Admiral', false, 'hash', '2020-07-15'),
    (103, null, 'Nobody', '', false, null, '2021-01-01');
select setval('users_id_seq', 1000);
insert into profiles (user_id, bio) values (101, 'bio'), (102, 'bio');
insert into skills (user_id, name) values (101, 'algebra'), (101, 'engines'), (102, 'compilers');
insert into conversations (user_id) values (101);
insert into messages (user_id, conversation_id, body) values (101, 1, 'hello');
insert into peers (user_id, peer_id) values (101, 102);
