-- $1: a site, or null for all. What can't be read may be of any.
SELECT * FROM data_quality WHERE $1::text IS NULL OR site IN ($1::text, '(unknown)')
