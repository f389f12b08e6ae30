#!/bin/sh
# Runs once, when compose makes the database: the role that the site works as, which owns nothing.
# `manage.py app_role` gives it what it needs.
set -eu
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
  --set password="$APP_PASSWORD" <<'SQL'
CREATE ROLE feedback_app LOGIN NOINHERIT PASSWORD :'password';
SQL
