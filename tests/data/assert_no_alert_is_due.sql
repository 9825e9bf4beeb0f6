-- A returned row is an alert: what it measures is above its threshold, the variable of its name in
-- dbt_project.yml. alert_severity says how bad that is: warn, or error, which keeps it from being published.
{{ config(severity=var('alert_severity')) }}

select
    alert,
    figure,
    threshold,
    meaning || ': ' || round(figure, 3) || ', above ' || threshold || ' (' || alert || ')' as says

from {{ ref('alerts') }}
where is_due
