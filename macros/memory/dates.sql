{#- Dates that stand in a text, whole ones: day, month and year.

    2026-03-12 and 2026/03/12; 12 March 2026, 12th of March 2026, March 12, 2026, also with Mar and in German; 12.03.2026,
    which is day first wherever dots are used; 12/03/2026 only where the numbers leave no choice (25/12/2026,
    12/25/2026, 5/5/2026). What depends on when it was said (tomorrow, on Friday, on 12 March) is none. -#}


{#- Expression, the dates in the first 2,000 characters of a text, from the year 1000 on, in order of time, each once. -#}
{% macro mentioned_dates(column) %}
    {{- return(adapter.dispatch('mentioned_dates', 'mnemoduck')(column)) -}}
{% endmacro %}

{#- Each date has a year, and few texts have what could be one: that is looked for first. -#}
{% macro duckdb__mentioned_dates(column) -%}
    case
        when regexp_matches({{ column }}, '{{ written_year() }}') then {{ dates_in_words(column) }}
        when {{ column }} is not null then cast([] as date[])
    end
{%- endmacro %}


{% macro written_year() -%}[12]\d{3}{%- endmacro %}


{#- Each date is written as ISO has it, and what is no day of the calendar then falls out. -#}
{% macro dates_in_words(column) -%}
{%- set month -%}
    (?:jan(?:uary|uar)?|feb(?:ruary|ruar)?|mar(?:ch)?|m(?:ä|ae)rz|apr(?:il)?|ma[iy]|jun[ei]?|jul[iy]?|aug(?:ust)?|sept?(?:ember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?)\.?
{%- endset -%}
{%- set day -%}\d{1,2}(?:st|nd|rd|th|\.)?{%- endset -%}
{%- set year = written_year() -%}
{%- set written -%}
    \b{{ year }}-\d{2}-\d{2}(?:\b|t)|\b{{ year }}/\d{1,2}/\d{1,2}\b|\b\d{1,2}[./]\d{1,2}[./]{{ year }}(?:[./]\d+)*\b
    {{- '' -}}
    |\b{{ day }} ?(?:of )?{{ month }},? {{ year }}\b|\b{{ month }} {{ day }},? {{ year }}\b
{%- endset -%}
    list_sort(list_distinct(list_filter(
        list_transform(
            regexp_extract_all(
                regexp_replace(lower({{ composed_text('left(' ~ column ~ ', 2000)', "' '") }}), '\s+', ' ', 'g'),
                '{{ written }}'
            ),
            lambda written: list_transform(
                [{
                    'numbers': regexp_extract_all(written, '\d+'),
                    'month': cast(list_position(
                        ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'],
                        translate(
                            replace(left(replace(regexp_extract(
                                written, '(?:^|[^a-zä])((?:jan|feb|mar|mär|mae|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz]))', 1
                            ), 'mae', 'mar'), 3), 'mai', 'may'),
                            'äkz', 'acc'
                        )
                    ) as varchar)
                }],
                lambda parts: try_cast(case
                    when len(parts.numbers) > 3 then null
                    when regexp_matches(written, '^\d{4}')
                        then concat_ws('-', parts.numbers[1], lpad(parts.numbers[2], 2, '0'), lpad(parts.numbers[3], 2, '0'))
                    when parts.month is not null
                        then concat_ws('-', parts.numbers[2], lpad(parts.month, 2, '0'), lpad(parts.numbers[1], 2, '0'))
                    when contains(written, '.') or cast(parts.numbers[1] as integer) > 12 or parts.numbers[1] = parts.numbers[2]
                        then concat_ws('-', parts.numbers[3], lpad(parts.numbers[2], 2, '0'), lpad(parts.numbers[1], 2, '0'))
                    when cast(parts.numbers[2] as integer) > 12
                        then concat_ws('-', parts.numbers[3], lpad(parts.numbers[1], 2, '0'), lpad(parts.numbers[2], 2, '0'))
                end as date)
            )[1]
        ),
        lambda moment: moment is not null
    )))
{%- endmacro %}
