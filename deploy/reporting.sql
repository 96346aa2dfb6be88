-- Adds a system to a database for reports of several systems: docs/reporting.md. Run by a superuser in that database
-- (not in a system's), once for each system; safe to repeat. Repeat it after a release that changes the views:
--   REPORTING_PASSWORD=... psql reporting -v system=north -v host=10.0.1.5 -v port=5432 -f deploy/reporting.sql
-- The system's own PostgreSQL needs a role for it:
--   CREATE ROLE reporting LOGIN PASSWORD '...'; GRANT impact_reader TO reporting;
-- The schema `public` then has the figures of all systems, and the schema `north` those of the system `north`. If a
-- system is away, every query fails and names it: a system is never silently missing from a sum.
\set ON_ERROR_STOP on
\getenv password REPORTING_PASSWORD
BEGIN;
SET LOCAL client_min_messages = warning; -- no notices of what exists already, or is dropped with the schema
CREATE EXTENSION IF NOT EXISTS postgres_fdw SCHEMA pg_catalog;
SELECT 'CREATE ROLE impact_reader NOLOGIN' WHERE to_regrole('impact_reader') IS NULL \gexec
GRANT USAGE ON SCHEMA public TO impact_reader;

DROP SCHEMA IF EXISTS :"system" CASCADE;
DROP SERVER IF EXISTS :"system" CASCADE;
CREATE SERVER :"system" FOREIGN DATA WRAPPER postgres_fdw OPTIONS (
    host :'host', port :'port', dbname 'impact',
    connect_timeout '5', keepalives_idle '10', keepalives_interval '5', keepalives_count '3', -- an error comes soon
    async_capable 'true', -- all systems are queried at the same time
    fetch_size '10000'
);
CREATE USER MAPPING FOR PUBLIC SERVER :"system" OPTIONS (user 'reporting', password :'password');
CREATE SCHEMA :"system";
IMPORT FOREIGN SCHEMA public LIMIT TO (sessions, monthly_impact, daily_impact, data_quality)
    FROM SERVER :"system" INTO :"system";
GRANT USAGE ON SCHEMA :"system" TO impact_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA :"system" TO impact_reader;

-- The comments of the system's tables and columns, which Metabase shows.
CREATE FOREIGN TABLE pg_temp.classes (oid oid, relname name, relnamespace oid)
    SERVER :"system" OPTIONS (schema_name 'pg_catalog', table_name 'pg_class');
CREATE FOREIGN TABLE pg_temp.namespaces (oid oid, nspname name)
    SERVER :"system" OPTIONS (schema_name 'pg_catalog', table_name 'pg_namespace');
CREATE FOREIGN TABLE pg_temp.attributes (attrelid oid, attnum int2, attname name)
    SERVER :"system" OPTIONS (schema_name 'pg_catalog', table_name 'pg_attribute');
CREATE FOREIGN TABLE pg_temp.descriptions (objoid oid, classoid oid, objsubid int, description text)
    SERVER :"system" OPTIONS (schema_name 'pg_catalog', table_name 'pg_description');

DO $$
DECLARE
    relation text;
    shown text;
    grouped text;
    columns text;
    command text;
BEGIN
    FOR relation, shown, grouped IN VALUES
        ('sessions', '*', ''),
        -- One row for each month and site, also if the site moved to another system within the month. Then people
        -- are added up, and a person who came before and after the move counts twice.
        ('monthly_impact', 'month, site, sum(sessions)::bigint AS sessions, sum(unique_users)::bigint AS unique_users, '
            'sum(signed_in_sessions)::bigint AS signed_in_sessions, sum(unique_signed_in_users)::bigint AS unique_signed_in_users, '
            'sum(visitor_sessions)::bigint AS visitor_sessions, sum(unique_visitors)::bigint AS unique_visitors', 'GROUP BY month, site'),
        ('daily_impact', 'day, site, sum(sessions)::bigint AS sessions, sum(signed_in_sessions)::bigint AS signed_in_sessions, '
            'sum(visitor_sessions)::bigint AS visitor_sessions', 'GROUP BY day, site'),
        ('data_quality', 'month, site, bool_and(comparable) AND count(*) = 1 AS comparable, max(began_on) AS began_on, '
            'max(ended_on) AS ended_on, min(days_without_sessions) AS days_without_sessions, sum(salts_replaced)::bigint AS salts_replaced, '
            'max(salt_replaced_on) AS salt_replaced_on, sum(sign_ins_given_up)::bigint AS sign_ins_given_up, '
            'sum(sign_ins_waiting)::bigint AS sign_ins_waiting, sum(dead_letters)::bigint AS dead_letters, '
            'bool_and(closed) AS closed, min(timezone) AS timezone, sum(sign_in_pairs)::bigint AS sign_in_pairs, '
            'sum(sign_in_pairs) FILTER (WHERE visitors_per_user > 0) / sum(sign_in_pairs / visitors_per_user) AS visitors_per_user, '
            'sum(sign_in_pairs) FILTER (WHERE users_per_visitor > 0) / sum(sign_in_pairs / users_per_visitor) AS users_per_visitor',
            'GROUP BY month, site')
    LOOP
        -- The columns of the first system, by name. If a system lacks one, an error names it.
        SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) INTO columns FROM pg_attribute
        WHERE attnum > 0 AND NOT attisdropped AND attrelid = (
            SELECT min(ftrelid::oid) FROM pg_foreign_table JOIN pg_class ON oid = ftrelid WHERE relname = relation
        );
        CONTINUE WHEN columns IS NULL;
        EXECUTE format('DROP VIEW IF EXISTS public.%I', relation);
        EXECUTE (
            SELECT format('CREATE VIEW public.%I AS SELECT %s FROM (%s) every_system %s', relation, shown,
                string_agg(format('SELECT %s FROM %I.%I', columns, srvname, relation), ' UNION ALL ' ORDER BY srvname), grouped)
            FROM pg_foreign_server JOIN pg_namespace ON nspname = srvname
        );
        EXECUTE format('GRANT SELECT ON public.%I TO impact_reader', relation);
    END LOOP;
    FOR command IN
        SELECT CASE WHEN objsubid = 0 THEN format('COMMENT ON VIEW public.%I IS %L', c.relname, description)
            ELSE format('COMMENT ON COLUMN public.%I.%I IS %L', c.relname, attname, description) END
        FROM pg_temp.descriptions d
        JOIN pg_temp.classes c ON c.oid = d.objoid AND d.classoid = 'pg_class'::regclass
        JOIN pg_temp.namespaces n ON n.oid = c.relnamespace AND n.nspname = 'public'
        LEFT JOIN pg_temp.attributes a ON a.attrelid = c.oid AND a.attnum = d.objsubid
        WHERE EXISTS (SELECT FROM pg_views v WHERE v.schemaname = 'public' AND v.viewname = c.relname)
    LOOP
        EXECUTE command;
    END LOOP;
    EXECUTE format('ALTER DATABASE %I SET jit = off', current_database());
END
$$;
DROP FOREIGN TABLE pg_temp.classes, pg_temp.namespaces, pg_temp.attributes, pg_temp.descriptions;
COMMIT;
