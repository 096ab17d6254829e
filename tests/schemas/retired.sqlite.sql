-- The stats.db of the retired service, as its dataset library made it: no keys but id, no indexes, NULLs.
CREATE TABLE requests (id INTEGER NOT NULL, timestamp INTEGER, domain TEXT, resource_id TEXT, email TEXT, count INTEGER, PRIMARY KEY (id));
CREATE TABLE errors (id INTEGER NOT NULL, timestamp INTEGER, resource_id TEXT, email TEXT, message TEXT, PRIMARY KEY (id));
CREATE TABLE totals (id INTEGER NOT NULL, resource_id TEXT, emails INTEGER, errors INTEGER, requests INTEGER, PRIMARY KEY (id));
INSERT INTO requests VALUES (1, 1400000000, 'localhost.example', 'r', 'old@localhost.example', 5);
INSERT INTO requests VALUES (2, 1400000001, NULL, 'r', '$2a$12$abcdefghijklmnopqrstuv', NULL);
INSERT INTO errors VALUES (1, 1400000002, 'r', 'old@localhost.example', 'Traceback (most recent call last): ...');
INSERT INTO totals VALUES (1, '*', 2, 1, 2);
