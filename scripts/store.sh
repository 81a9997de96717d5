#!/usr/bin/env bash
# A store of runs for a laboratory, without containers: PostgreSQL, an MLflow server on it, and artifacts in a folder.
#
#   scripts/store.sh start FOLDER [--host ADDRESS] [--names NAME,NAME] [--port 5000] [--database-port 5433] [--workers 4]
#                                 [--auth | --open]
#   scripts/store.sh status FOLDER
#   scripts/store.sh stop FOLDER
#
# It listens on this machine alone (127.0.0.1) unless --host names an address of it. Then it wants to know who may use it: --auth asks
# for user and password (pip install 'mlflow[auth]'), --open lets everybody read and write who reaches the port. --names are the names
# by which others call this machine. The databases `mlflow` and `optuna` want a password in either case; it is made at the first start
# and kept in FOLDER/pgpass. Everything is below FOLDER; a second start goes on with what is there.
# PostgreSQL: apt-get install postgresql; python with: pip install 'agmbench[postgresql]'. PYTHON names another python.
set -euo pipefail

fail() {
  echo "error: $1" >&2
  exit 2
}

[ $# -ge 2 ] || { sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//' >&2; exit 2; }
verb=$1
[[ $2 != -* ]] || fail "the folder comes after '$verb': $0 $verb FOLDER"
mkdir -p "$2"
folder=$(cd "$2" && pwd)
shift 2
host=127.0.0.1 names= port=5000 database_port=5433 workers=4 access=
python=${PYTHON:-python3}

while [ $# -gt 0 ]; do
  case $1 in
    --host | --names | --port | --database-port | --workers)
      [ $# -ge 2 ] || fail "$1 needs a value"
      key=${1#--}
      printf -v "${key//-/_}" '%s' "$2"
      shift 2
      ;;
    --auth | --open)
      access=${1#--}
      shift
      ;;
    *) fail "no option '$1'; there are --host, --names, --port, --database-port, --workers, --auth and --open" ;;
  esac
done

binaries=$(ls -d /usr/lib/postgresql/*/bin 2> /dev/null | sort -V | tail -1)
[ -n "$binaries" ] || binaries=$(dirname "$(command -v pg_ctl || true)")
[ -x "$binaries/pg_ctl" ] || fail "there is no PostgreSQL server here: apt-get install postgresql"
data=$folder/postgres
export PGPASSFILE=$folder/pgpass

database() { # run a program with PostgreSQL's own programs first in PATH; as user postgres if this is root, under whom PostgreSQL refuses
  if [ "$(id -u)" = 0 ]; then
    (cd / && runuser -u postgres -- env PATH="$binaries:$PATH" "$@")
  else
    PATH="$binaries:$PATH" "$@"
  fi
}

alive() { [ -f "$folder/mlflow.pid" ] && kill -0 "$(cat "$folder/mlflow.pid")" 2> /dev/null; }

start_database() {
  if [ ! -f "$data/PG_VERSION" ]; then
    password=$("$python" -c 'import secrets; print(secrets.token_urlsafe(24))')
    (umask 077 && printf '*:*:*:agmbench:%s\n' "$password" > "$PGPASSFILE")
    mkdir -p "$data"
    chmod 700 "$data"
    (umask 077 && echo "$password" > "$folder/password")
    [ "$(id -u)" != 0 ] || chown postgres "$data" "$folder/password"
    database initdb -D "$data" -A scram-sha-256 -U agmbench --pwfile="$folder/password" > /dev/null \
      || { rm -rf "$data" "$folder/password"; fail "PostgreSQL could not make its folder $data"; }
    rm "$folder/password"
    # let machines of the same network in, if PostgreSQL listens there
    database tee -a "$data/pg_hba.conf" <<< 'host all agmbench samenet scram-sha-256' > /dev/null
  fi
  local addresses=127.0.0.1
  [ "$host" = 127.0.0.1 ] || addresses=127.0.0.1,$host
  database pg_ctl -D "$data" status > /dev/null && return
  database pg_ctl -D "$data" -w -l "$data/log" -o "-p $database_port -h $addresses -k $data -c max_connections=300" start > /dev/null \
    || fail "PostgreSQL did not start; $data/log says why"
}

query() { "$binaries/psql" -h 127.0.0.1 -p "$database_port" -U agmbench -d "${2:-postgres}" -qtAc "$1"; }

start_server() {
  local words=(--host "$host" --port "$port" --workers "$workers" --artifacts-destination "$folder/artifacts")
  [ -z "$names" ] || words+=(--allowed-hosts "localhost,127.0.0.1,$host,$names,localhost:*,127.0.0.1:*,$host:*,${names//,/:*,}:*")
  if [ "$access" = auth ]; then
    "$python" -c 'import flask_wtf' 2> /dev/null || fail "--auth needs: pip install 'mlflow[auth]'"
    (
      umask 077
      printf '%s\n' '[mlflow]' 'default_permission = EDIT' "database_uri = sqlite:///$folder/users.db" 'admin_username = admin' \
        "admin_password = $(cut -d: -f5 "$PGPASSFILE")" \
        'authorization_function = mlflow.server.auth:authenticate_request_basic_auth' > "$folder/auth.ini"
      [ -f "$folder/secret" ] || "$python" -c 'import secrets; print(secrets.token_urlsafe(32))' > "$folder/secret"
    )
    export MLFLOW_AUTH_CONFIG_PATH=$folder/auth.ini MLFLOW_FLASK_SERVER_SECRET_KEY
    MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat "$folder/secret")
    words+=(--app-name basic-auth)
  fi
  # the address is in the environment and the password in PGPASSFILE, so that no list of processes shows them
  export MLFLOW_BACKEND_STORE_URI="postgresql+psycopg://agmbench@127.0.0.1:$database_port/mlflow"
  export MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
  (cd "$folder" && exec setsid nohup "$python" -m mlflow server "${words[@]}" > "$folder/mlflow.log" 2>&1 < /dev/null) &
  echo $! > "$folder/mlflow.pid"
  for _ in $(seq 300); do
    alive || fail "the MLflow server ended; $folder/mlflow.log says why"
    if "$python" -c "import urllib.request; urllib.request.urlopen('http://$host:$port/health', timeout=5)" 2> /dev/null; then return; fi
    sleep 0.5
  done
  fail "the MLflow server does not answer; $folder/mlflow.log may say why"
}

case $verb in
  start)
    [ "$host" = 127.0.0.1 ] || [ -n "$access" ] \
      || fail "--host $host opens the store to others: say --auth (they need a password) or --open (whoever reaches the port may write)"
    if alive; then echo "it is running already" && exit 0; fi
    "$python" -c 'import mlflow, psycopg' 2> /dev/null || fail "$python has no mlflow or no psycopg: pip install 'agmbench[postgresql]'"
    start_database
    for name in mlflow optuna; do
      [ "$(query "SELECT 1 FROM pg_database WHERE datname = '$name'")" = 1 ] || query "CREATE DATABASE $name"
    done
    start_server
    echo "# on every machine; give each user a copy of $PGPASSFILE for sweeps"
    echo "export MLFLOW_TRACKING_URI=http://$host:$port"
    if [ "$access" = auth ]; then echo "export MLFLOW_TRACKING_USERNAME=admin MLFLOW_TRACKING_PASSWORD=  # in $folder/auth.ini"; fi
    echo "export PGPASSFILE=$PGPASSFILE"
    echo "# agmbench sweep ... --storage postgresql+psycopg://agmbench@$host:$database_port/optuna"
    ;;
  status)
    if alive; then echo "the MLflow server is process $(cat "$folder/mlflow.pid")"; else echo "the MLflow server is not running"; fi
    database pg_ctl -D "$data" status | head -1
    ;;
  stop)
    if alive; then kill -- "-$(cat "$folder/mlflow.pid")" 2> /dev/null || kill "$(cat "$folder/mlflow.pid")"; fi
    rm -f "$folder/mlflow.pid"
    if database pg_ctl -D "$data" status > /dev/null; then database pg_ctl -D "$data" -m fast -w stop > /dev/null; fi
    ;;
  *) fail "no '$verb'; there are start, status and stop" ;;
esac
