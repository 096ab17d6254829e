# Settings of ckanpackager. A Python file: names in upper case are settings, others are yours.
# Every setting is here with its default, so that all lines but the one of SECRET may be removed.
# ruff: noqa: E501, S105, S108 - texts are long, and the secret and the folders are as documented


# The service
# -----------

# Debug mode: the log says more.
DEBUG = False

# The address to listen on. 127.0.0.1 serves this machine only; 0.0.0.0 (or :: with IPv6), or the address of
# an interface, serves others too.
HOST = "127.0.0.1"

# The port to listen on; 0 takes any free one.
PORT = 8765

# The address at which visitors reach this service, such as https://packages.example.org: the links in
# e-mails begin with it. Empty means http://HOST:PORT, which is right only for visitors who can reach that.
PUBLIC_URL = ""

# The secret that CKAN and this service share, at least 8 characters: only who knows it can queue a request.
# YOU MUST CHANGE THIS VALUE: the service does not start with the published example. It is only as safe as
# the way it travels, so let it travel over HTTPS or not leave the machine.
SECRET = "8ba6d280d4ce9a416e9b604f3f0ebb"

# The CKANs that may be asked, and that an API key may be sent to: a list of hosts, such as
# 'data.example.org' (on any port) or 'data.example.org:8080'. Empty means that any api_url is accepted, and
# that no key is ever sent when a file is fetched by its URL.
CKAN_HOSTS = []

# What the visitor reads in CKAN when a request has been accepted.
SUCCESS_MESSAGE = "Your request has been accepted, and the resource will be e-mailed to you shortly. Please be patient: it may take longer when our servers are busy."


# Files
# -----

# The database of requests, errors and waiting jobs: sqlite:/// and the path of a file (four slashes begin a
# full path), or postgresql://user:password@host/database. It cannot be in memory, and it belongs to one
# service.
STATS_DB = "sqlite:////var/lib/ckanpackager/stats.db"

# The folder where finished packages are stored. They outlive a restart of the machine in one that is not
# under /tmp, such as /var/lib/ckanpackager/store.
STORE_DIRECTORY = "/tmp/ckanpackager"

# The folder for what is needed only while a package is made.
TEMP_DIRECTORY = "/tmp"

# The seconds for which a request with the same parameters is answered with the same package; at least 1.
# 86400 is a day.
CACHE_TIME = 86400

# The seconds for which a package can be downloaded after it was announced, for the last time if to several
# visitors; then it is removed. Not less than CACHE_TIME. 604800 is a week.
KEEP_TIME = 604800

# The bytes that are to be free on the disks of STORE_DIRECTORY, TEMP_DIRECTORY and STATS_DB. Where there are
# fewer, packages that nobody needs any more are removed, the one announced longest ago first; where that
# does not help, nothing is begun and nothing accepted until there is more room.
MIN_FREE_SPACE = 200000000

# The bytes that all packages may have together, finished and half-made; beyond that finished ones are
# removed as for MIN_FREE_SPACE. It should be many times the size of the largest. 0 sets no limit.
MAX_STORE_SIZE = 0

# A command that packs, run once for each file, such as '/usr/bin/zip -j {output} {input}'. {input} is
# replaced by the path of the file, and {output} by that of the ZIP; they need no quotes. None means that the
# service packs by itself, which is quicker.
ZIP_COMMAND = None

# The number of rows to ask CKAN for at first. Pages then grow or shrink, so that one takes CKAN some two
# seconds (it gives up after 60) and is a few megabytes large.
PAGE_SIZE = 5000

# The number of pages of one resource that may be under way at once.
PAGES_AT_ONCE = 2

# The number of requests to one CKAN, or one host of files, that may be under way at once, over all jobs.
CKAN_REQUESTS = 4

# A request for more rows than this is slow, and goes to the slow workers.
SLOW_REQUEST = 50000

# How many fast requests are worked on at once.
FAST_WORKERS = 2

# How many slow requests are worked on at once.
SLOW_WORKERS = 1

# How many requests for one e-mail address are worked on at once; its others wait, and let those of other
# visitors pass. 0 sets no bound.
JOBS_PER_ADDRESS = 2

# The same for the requests that read from one CKAN, or one host of files, so that a slow one does not keep
# all workers. 0 sets no bound.
JOBS_PER_HOST = 0

# How many requests may be accepted and not finished; beyond that, further ones are refused for the time
# being. 0 sets no bound.
QUEUE_LENGTH = 10000

# A request has failed when the process that makes its package died so often.
MAX_ATTEMPTS = 3

# The seconds that a fast worker may take for a request; then it is stopped, which counts as one of the
# MAX_ATTEMPTS.
FAST_TIMEOUT = 7200

# The same for a slow worker.
SLOW_TIMEOUT = 86400

# The seconds that a fast worker may go without a further row or byte. Asking again a source that did not
# answer is no standstill, and neither is packing what has come. It should be some minutes more than
# READ_TIMEOUT. What is slower than a megabyte in this time is given up too.
FAST_STALL_TIMEOUT = 600

# The same for a slow worker.
SLOW_STALL_TIMEOUT = 1200

# The bytes of memory that a worker may use, at least 100000000; a request that needs more fails. 0 sets no
# limit. A worker needs about 60 MB, however large the resource, and more for large pages.
WORKER_MEMORY = 0

# The seconds for which a request is tried again while CKAN, or a file's host, cannot be reached; 21600 is
# six hours.
SOURCE_RETRY_TIME = 21600

# The seconds given to running jobs to finish when the service is told to stop; what has not finished by then
# is begun again at the next start. TimeoutStopSec in the systemd unit must be more.
STOP_GRACE = 30

# The seconds to wait for a connection to CKAN, or to the host of a file.
CONNECT_TIMEOUT = 30

# The seconds to wait for CKAN, or the host of a file, to go on with its answer.
READ_TIMEOUT = 60


# E-mail
# ------

# The subject of the e-mail. Placeholders, here and in the bodies:
# {resource_id}: the resource's id;
# {zip_file_name}: the name of the package;
# {ckan_host}: the host name of the CKAN that was asked;
# {download_url}: the link to the package;
# {status_url}: the page of the request;
# {rows}, {size}, {sha256}: the number of rows, the size and the checksum of the package;
# {expires}: until when it can be downloaded;
# {report}: what is worth knowing about how it was made;
# {doi}: the DOI that came with the request;
# {doi_body}, {doi_body_html}: DOI_BODY and DOI_BODY_HTML, if there is a DOI.
EMAIL_SUBJECT = "Resource from {ckan_host}"

# The sender, which should be an e-mail address.
EMAIL_FROM = "(nobody)"

# The text of the e-mail.
EMAIL_BODY = """Hello,

The resource that you asked for on {ckan_host} is ready:

{download_url}

The link can be used until {expires}.

Size: {size}
Rows: {rows}
SHA-256: {sha256}

{report}

{doi_body}

The page of your request, with all that is known about it:

{status_url}

Best wishes,
The Data Portal Bot
"""

# The e-mail as HTML. None means that it is made from the text, and an empty text that there is none.
EMAIL_BODY_HTML = None

# A paragraph for {doi_body}, used when the request came with a DOI, which is {doi} in it.
DOI_BODY = ""

# The same as HTML, for {doi_body_html}.
DOI_BODY_HTML = ""

# The subject of the e-mail about a request that failed. {error} is the reason, in the bodies too.
FAILURE_SUBJECT = "The resource from {ckan_host} could not be packaged"

# The text of the e-mail about a request that failed.
FAILURE_BODY = """Hello,

The resource that you asked for on {ckan_host} could not be packaged, and we are sorry for that. The reason:

{error}

Resource: {resource_id}

The page of your request, with all that is known about it:

{status_url}

Best wishes,
The Data Portal Bot
"""

# The same as HTML. None means that it is made from the text, and an empty text that there is none.
FAILURE_BODY_HTML = None

# Whether the statistics hold a keyed hash in the place of each e-mail address.
ANONYMIZE_EMAILS = False


# The mail server
# ---------------

# The mail server.
SMTP_HOST = "localhost"

# Its port; 587 is usual for 'starttls', 465 for 'tls'.
SMTP_PORT = 25

# 'starttls' or 'tls' encrypt the connection, and check the server's certificate; 'none' does not.
SMTP_SECURITY = "none"

# The user to log in as; empty to send without log-in.
SMTP_LOGIN = ""

# The password to log in with.
SMTP_PASSWORD = ""

# The seconds to wait for each answer of the mail server.
SMTP_TIMEOUT = 30

# The seconds for which an e-mail is tried again while the mail server does not take it; 259200 is three
# days.
MAIL_RETRY_TIME = 259200


# Darwin Core Archives
# --------------------

# The field whose values identify the rows within an archive.
DWC_ID_FIELD = "_id"

# The core: the name of a definition that comes with the service, such as 'occurrence', 'taxon' or 'event',
# or the path of an XML file in the format of GBIF's. Fields whose name, as it is or in camel case, is one of
# its terms go there.
DWC_CORE_EXTENSION = "occurrence"

# More definitions, such as 'measurement_or_fact', for the fields that have no place in the core: the first
# that has a term of their name takes them.
DWC_ADDITIONAL_EXTENSIONS = []

# The term of the core that takes, as a JSON object, the fields that have no place at all. None drops them.
DWC_DYNAMIC_TERM = "dynamicProperties"

# What the fields are called in that JSON object: 'camel' makes a 'Bone density' into 'boneDensity', and any
# single word into small letters; 'verbatim' leaves all names as they are.
DWC_DYNAMIC_KEYS = "camel"

# Fields that hold a JSON list of objects, each object a row of an extension. For each such field:
# 'extension' is the definition;
# 'fields' leads from its terms, which are the names to expect in an object, to the values for those
# that are missing, null or blank;
# 'mappings', optional, leads from terms that have another name in the objects to that name;
# 'formatters', optional, leads from terms to the formatter that their values go through: 'image_type',
# 'audio_type' or 'video_type', which turn a 'jpeg' into 'image/jpeg'.
# Where two terms of a definition have one short name, dcterms:type or the whole IRI tells them apart.
# For example: {"associatedMedia": {"extension": "multimedia",
# "fields": {"type": "StillImage", "format": "image/jpeg", "title": ""},
# "mappings": {"format": "mime"}, "formatters": {"format": "image_type"}}}
DWC_EXTENSION_FIELDS = {}


# Of the retired service
# ----------------------

# Accepted, so that older files can be used, and not used: the service has its own queue.
CELERY_BROKER = ""

# Accepted, so that older files can be used, and not used: faults are in the log.
SENTRY_DSN = ""
