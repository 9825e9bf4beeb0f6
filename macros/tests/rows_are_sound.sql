{#- Each row has a key of its own and keeps the rules, checked in one query. A returned row is at fault:
    it shows its key and says what is wrong. A rule that is null counts as broken.

    Arguments: `key`, the columns that identify a row, none of them null; `rules`, a condition for each
    name. -#}
{% test rows_are_sound(model, key, rules={}) %}
{%- set key_columns = key | join(', ') %}

select
    {{ key_columns }},
    'is not the only row with its key' as fault

from {{ model }}
group by {{ key_columns }}
having count(*) > 1

union all

select
    {{ key_columns }},
    concat_ws(
        ', '
        {%- for column in key %},
        case when {{ column }} is null then 'breaks {{ column }}_is_not_null' end
        {%- endfor %}
        {%- for name, rule in rules.items() %},
        case when ({{ rule }}) is not true then 'breaks {{ name }}' end
        {%- endfor %}
    ) as fault

from {{ model }}
where
    {% for column in key -%}
    {{ 'or ' if not loop.first }}{{ column }} is null
    {% endfor -%}
    {% for rule in rules.values() -%}
    or ({{ rule }}) is not true
    {% endfor %}
{% endtest %}
