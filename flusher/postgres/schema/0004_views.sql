-- The counts, for analysts.

CREATE VIEW public.monthly_impact AS
SELECT
    month, site,
    sum(visitor_sessions + signed_in_sessions) AS sessions,
    sum(unique_users) AS unique_users,
    sum(signed_in_sessions) AS signed_in_sessions,
    sum(unique_signed_in_users) AS unique_signed_in_users,
    sum(visitor_sessions) AS visitor_sessions,
    sum(unique_visitors) AS unique_visitors
FROM flusher.counts WHERE whole_month
GROUP BY month, site
HAVING sum(visitor_sessions + signed_in_sessions) <> 0;
COMMENT ON VIEW public.monthly_impact IS 'How many people each site reached in each calendar month. Sessions can be added up, '
    'people can''t: the same person counts once in each month and site. The view data_quality shows which months can be compared.';
COMMENT ON COLUMN public.monthly_impact.month IS 'The calendar month, as its first day.';
COMMENT ON COLUMN public.monthly_impact.site IS 'The host name of the site.';
COMMENT ON COLUMN public.monthly_impact.sessions IS 'How often the site was opened: signed_in_sessions plus visitor_sessions.';
COMMENT ON COLUMN public.monthly_impact.unique_users IS
    'Can''t be added up over months or sites: how many different people opened the site, signed in or not.';
COMMENT ON COLUMN public.monthly_impact.signed_in_sessions IS 'Sessions in which the user was signed in from the start, or signed in.';
COMMENT ON COLUMN public.monthly_impact.unique_signed_in_users IS
    'Can''t be added up over months or sites: how many different users were signed in.';
COMMENT ON COLUMN public.monthly_impact.visitor_sessions IS 'Sessions of visitors who did not sign in.';
COMMENT ON COLUMN public.monthly_impact.unique_visitors IS
    'Can''t be added up over months or sites: how many different visitors did not sign in. Who came both ways counts in both.';

CREATE VIEW public.daily_impact AS
SELECT
    day, site,
    sum(visitor_sessions + signed_in_sessions) AS sessions,
    sum(signed_in_sessions) AS signed_in_sessions,
    sum(visitor_sessions) AS visitor_sessions
FROM flusher.counts WHERE NOT whole_month
GROUP BY day, site
HAVING sum(visitor_sessions + signed_in_sessions) <> 0;
COMMENT ON VIEW public.daily_impact IS 'How often each site was opened on each calendar day of the service''s time zone. '
    'People are counted by month only: see monthly_impact.';
COMMENT ON COLUMN public.daily_impact.day IS 'The calendar day.';
COMMENT ON COLUMN public.daily_impact.site IS 'The host name of the site.';
COMMENT ON COLUMN public.daily_impact.sessions IS 'How often the site was opened: signed_in_sessions plus visitor_sessions.';
COMMENT ON COLUMN public.daily_impact.signed_in_sessions IS 'Sessions in which the user was signed in from the start, or signed in.';
COMMENT ON COLUMN public.daily_impact.visitor_sessions IS 'Sessions of visitors who did not sign in.';
