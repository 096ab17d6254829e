-- The database of version 1, as it made it itself: a job in each state.
CREATE TABLE public.ckanpackager_schema (
    id integer NOT NULL,
    version integer NOT NULL
);
CREATE SEQUENCE public.ckanpackager_schema_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.ckanpackager_schema_id_seq OWNED BY public.ckanpackager_schema.id;
CREATE TABLE public.errors (
    id integer NOT NULL,
    "timestamp" integer,
    resource_id text,
    email text,
    message text
);
CREATE SEQUENCE public.errors_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.errors_id_seq OWNED BY public.errors.id;
CREATE TABLE public.job_events (
    id integer NOT NULL,
    job_id integer NOT NULL,
    "timestamp" double precision NOT NULL,
    state character varying(255) NOT NULL,
    reason text NOT NULL
);
CREATE SEQUENCE public.job_events_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.job_events_id_seq OWNED BY public.job_events.id;
CREATE TABLE public.jobs (
    seq integer NOT NULL,
    id character varying(255) NOT NULL,
    task character varying(255) NOT NULL,
    resource_id character varying(255) NOT NULL,
    request text NOT NULL,
    cache_key character varying(255) NOT NULL,
    queue character varying(255) NOT NULL,
    state character varying(255) NOT NULL,
    created double precision NOT NULL,
    started double precision,
    finished double precision,
    not_before double precision NOT NULL,
    lease character varying(255),
    deaths integer NOT NULL,
    unavailable_since double precision,
    rows_total bigint,
    package_id integer,
    error text
);
CREATE SEQUENCE public.jobs_seq_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.jobs_seq_seq OWNED BY public.jobs.seq;
CREATE TABLE public.mails (
    id integer NOT NULL,
    job_id integer NOT NULL,
    kind character varying(255) NOT NULL,
    state character varying(255) NOT NULL,
    not_before double precision NOT NULL,
    first_tried double precision,
    sent double precision,
    error text
);
CREATE SEQUENCE public.mails_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.mails_id_seq OWNED BY public.mails.id;
CREATE TABLE public.packages (
    id integer NOT NULL,
    cache_key character varying(255),
    zip_file_name character varying(255) NOT NULL,
    file_name text NOT NULL,
    size bigint NOT NULL,
    sha256 character varying(255) NOT NULL,
    rows bigint,
    created double precision NOT NULL,
    expires double precision NOT NULL,
    removed double precision
);
CREATE SEQUENCE public.packages_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.packages_id_seq OWNED BY public.packages.id;
CREATE TABLE public.requests (
    id integer NOT NULL,
    "timestamp" integer,
    resource_id text,
    email text,
    count bigint,
    domain text
);
CREATE SEQUENCE public.requests_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.requests_id_seq OWNED BY public.requests.id;
ALTER TABLE ONLY public.ckanpackager_schema ALTER COLUMN id SET DEFAULT nextval('public.ckanpackager_schema_id_seq'::regclass);
ALTER TABLE ONLY public.errors ALTER COLUMN id SET DEFAULT nextval('public.errors_id_seq'::regclass);
ALTER TABLE ONLY public.job_events ALTER COLUMN id SET DEFAULT nextval('public.job_events_id_seq'::regclass);
ALTER TABLE ONLY public.jobs ALTER COLUMN seq SET DEFAULT nextval('public.jobs_seq_seq'::regclass);
ALTER TABLE ONLY public.mails ALTER COLUMN id SET DEFAULT nextval('public.mails_id_seq'::regclass);
ALTER TABLE ONLY public.packages ALTER COLUMN id SET DEFAULT nextval('public.packages_id_seq'::regclass);
ALTER TABLE ONLY public.requests ALTER COLUMN id SET DEFAULT nextval('public.requests_id_seq'::regclass);
INSERT INTO public.ckanpackager_schema VALUES (1, 1);
INSERT INTO public.errors VALUES (1, 1700000022, 'failed', 'visitor@localhost.example', 'CKAN said no');
INSERT INTO public.job_events VALUES (1, 1, 1700000000, 'queued', 'accepted');
INSERT INTO public.job_events VALUES (2, 1, 1700000000, 'running', 'given to a fast worker');
INSERT INTO public.job_events VALUES (3, 1, 1700000000, 'built', 'the package is made');
INSERT INTO public.job_events VALUES (4, 1, 1700000000, 'done', 'the e-mail was handed to the mail server');
INSERT INTO public.job_events VALUES (5, 2, 1700000010, 'queued', 'accepted');
INSERT INTO public.job_events VALUES (6, 2, 1700000011, 'running', 'given to a fast worker');
INSERT INTO public.job_events VALUES (7, 2, 1700000012, 'built', 'the package is made');
INSERT INTO public.job_events VALUES (8, 3, 1700000020, 'queued', 'accepted');
INSERT INTO public.job_events VALUES (9, 3, 1700000021, 'running', 'given to a fast worker');
INSERT INTO public.job_events VALUES (10, 3, 1700000022, 'failed', 'CKAN said no');
INSERT INTO public.job_events VALUES (11, 4, 1700000030, 'queued', 'accepted');
INSERT INTO public.job_events VALUES (12, 4, 1700000031, 'running', 'given to a fast worker');
INSERT INTO public.job_events VALUES (13, 5, 1700000040, 'queued', 'accepted');
INSERT INTO public.jobs VALUES (1, '605be7dd03be0173734c47f0142ad0f3', 'package_datastore', 'done', '{"task": "package_datastore", "resource_id": "done", "email": "visitor@localhost.example", "api_url": "http://ckan.example/api/3/action/datastore_search", "distinct": false, "offset": 0, "format": "csv"}', '70e1bf64f551e2c2b039bbb8bd26882c3e281935deccf68e31c4517ebe9cabbc', 'fast', 'done', 1700000000, 1700000000, 1700000000, 0, NULL, 0, NULL, 3, 1, NULL);
INSERT INTO public.jobs VALUES (2, '764135e8b9a91a264ed17bd30d60bacc', 'package_datastore', 'built', '{"task": "package_datastore", "resource_id": "built", "email": "visitor@localhost.example", "api_url": "http://ckan.example/api/3/action/datastore_search", "distinct": false, "offset": 0, "format": "csv"}', 'b4f9d4a2b7ff48a099949002a42543df2e6eeb9cbcd42212759ccffff09bc900', 'fast', 'built', 1700000010, 1700000011, NULL, 0, NULL, 0, NULL, 3, 2, NULL);
INSERT INTO public.jobs VALUES (3, 'bfc4ad897d9da608ce54a40ec90f8114', 'package_datastore', 'failed', '{"task": "package_datastore", "resource_id": "failed", "email": "visitor@localhost.example", "api_url": "http://ckan.example/api/3/action/datastore_search", "distinct": false, "offset": 0, "format": "csv"}', '28b537d416f95e62adc124e5c80bba098ca8a313b470389bd807ce773f857bfe', 'fast', 'failed', 1700000020, 1700000021, 1700000022, 0, NULL, 0, NULL, NULL, NULL, 'CKAN said no');
INSERT INTO public.jobs VALUES (4, '3468a65ef0258a07d5a7a3e1477ff4e3', 'package_datastore', 'running', '{"task": "package_datastore", "resource_id": "running", "email": "visitor@localhost.example", "api_url": "http://ckan.example/api/3/action/datastore_search", "distinct": false, "offset": 0, "format": "csv", "key": "a-key"}', '0b9494ca6ee57addb7844bea3f60969a7c5b1cef6842c3afcd9fd1258fc99ac9', 'fast', 'running', 1700000030, 1700000031, NULL, 0, '2de81a9caa7c755df965cb434647c64e', 0, NULL, NULL, NULL, NULL);
INSERT INTO public.jobs VALUES (5, '7782ecbc72c9cfafdbb17c9a384f93fa', 'package_datastore', 'queued', '{"task": "package_datastore", "resource_id": "queued", "email": "visitor@localhost.example", "api_url": "http://ckan.example/api/3/action/datastore_search", "q": "Rosa", "distinct": false, "offset": 0, "format": "csv"}', '522f1b110419d4dae3c2633fb0275f05aab2f48f1a19815105b4c15e7f6a27c5', 'fast', 'queued', 1700000040, NULL, NULL, 0, NULL, 0, NULL, NULL, NULL, NULL);
INSERT INTO public.mails VALUES (1, 1, 'ready', 'sent', 0, 1700000000, 1700000000, NULL);
INSERT INTO public.mails VALUES (2, 2, 'ready', 'waiting', 0, NULL, NULL, NULL);
INSERT INTO public.mails VALUES (3, 3, 'failed', 'waiting', 0, NULL, NULL, NULL);
INSERT INTO public.packages VALUES (1, '70e1bf64f551e2c2b039bbb8bd26882c3e281935deccf68e31c4517ebe9cabbc', 'done-61bba25ca3f53bde45ffcba9ebc1fdc0.zip', 'r.zip', 5, '0000000000000000000000000000000000000000000000000000000000000000', 3, 1700000000, 1700604800, NULL);
INSERT INTO public.packages VALUES (2, 'b4f9d4a2b7ff48a099949002a42543df2e6eeb9cbcd42212759ccffff09bc900', 'built-abbde1d2281ef51feae54674aa3c39dc.zip', 'r.zip', 5, '0000000000000000000000000000000000000000000000000000000000000000', 3, 1700000012, 1700604812, NULL);
INSERT INTO public.requests VALUES (1, 1700000000, 'done', 'visitor@localhost.example', NULL, 'localhost.example');
INSERT INTO public.requests VALUES (2, 1700000012, 'built', 'visitor@localhost.example', NULL, 'localhost.example');
SELECT pg_catalog.setval('public.ckanpackager_schema_id_seq', 1, true);
SELECT pg_catalog.setval('public.errors_id_seq', 1, true);
SELECT pg_catalog.setval('public.job_events_id_seq', 13, true);
SELECT pg_catalog.setval('public.jobs_seq_seq', 5, true);
SELECT pg_catalog.setval('public.mails_id_seq', 3, true);
SELECT pg_catalog.setval('public.packages_id_seq', 2, true);
SELECT pg_catalog.setval('public.requests_id_seq', 2, true);
ALTER TABLE ONLY public.ckanpackager_schema
    ADD CONSTRAINT ckanpackager_schema_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.errors
    ADD CONSTRAINT errors_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.job_events
    ADD CONSTRAINT job_events_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.mails
    ADD CONSTRAINT mails_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.packages
    ADD CONSTRAINT packages_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.requests
    ADD CONSTRAINT requests_pkey PRIMARY KEY (id);
CREATE INDEX error_resource_id ON public.errors USING btree (resource_id);
CREATE INDEX error_timestamp ON public.errors USING btree ("timestamp");
CREATE INDEX eventrow_job_id ON public.job_events USING btree (job_id);
CREATE INDEX jobrow_cache_key ON public.jobs USING btree (cache_key);
CREATE UNIQUE INDEX jobrow_id ON public.jobs USING btree (id);
CREATE INDEX jobrow_package_id ON public.jobs USING btree (package_id);
CREATE INDEX jobrow_state_queue_seq ON public.jobs USING btree (state, queue, seq);
CREATE INDEX mailrow_job_id ON public.mails USING btree (job_id);
CREATE INDEX mailrow_state_not_before ON public.mails USING btree (state, not_before);
CREATE INDEX packagerow_cache_key ON public.packages USING btree (cache_key);
CREATE INDEX packagerow_expires ON public.packages USING btree (expires);
CREATE UNIQUE INDEX packagerow_zip_file_name ON public.packages USING btree (zip_file_name);
CREATE INDEX request_resource_id ON public.requests USING btree (resource_id);
CREATE INDEX request_timestamp ON public.requests USING btree ("timestamp");
ALTER TABLE ONLY public.job_events
    ADD CONSTRAINT job_events_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.jobs(seq);
ALTER TABLE ONLY public.jobs
    ADD CONSTRAINT jobs_package_id_fkey FOREIGN KEY (package_id) REFERENCES public.packages(id);
ALTER TABLE ONLY public.mails
    ADD CONSTRAINT mails_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.jobs(seq);
