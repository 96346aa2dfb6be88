-- Sets settings of this connection. $1: their names; $2: their values.
SELECT set_config(name, value, false) FROM unnest($1::text[], $2::text[]) AS wanted (name, value)
