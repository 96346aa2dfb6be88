-- $1: a site, or null for all. Dead letters that can't be decoded may be of any site.
SELECT * FROM data_quality WHERE $1::text IS NULL OR site IN ($1::text, '(unknown)')
