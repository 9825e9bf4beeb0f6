{#- What a model has answered, read as data: JSON of the right form, but never trusted. A value that is not what it
    should be is null, as if the model had said nothing of it; a number out of its range counts as the nearest in it;
    lists and texts are cut at the bounds that the model was given. -#}


{#- Expression, an answer, null where it is no JSON. -#}
{% macro valid_answer(column) %}{{ return(adapter.dispatch('valid_answer', 'mnemoduck')(column)) }}{% endmacro %}

{% macro duckdb__valid_answer(column) %}{{ return("(case when json_valid(" ~ column ~ ") then " ~ column ~ " end)") }}{% endmacro %}


{#- Expression, a number of an answer within its range, a double. -#}
{% macro answered_number(answer, key, low, high) %}
    {{- return(adapter.dispatch('answered_number', 'mnemoduck')(answer, key, low, high)) -}}
{% endmacro %}

{% macro duckdb__answered_number(answer, key, low, high) -%}
    {%- set number = 'try_cast(' ~ json_text(answer, key) ~ ' as double)' -%}
    case when isfinite({{ number }}) then greatest(least({{ number }}, {{ high }}), {{ low }}) end
{%- endmacro %}


{#- Expression, a text of an answer that is not empty, cut. -#}
{% macro answered_text(answer, key, characters) -%}
    case
        when {{ json_value(answer, key) }} like '"%'
            then nullif(left(trim({{ json_text(answer, key) }}), {{ characters }}), '')
    end
{%- endmacro %}


{#- Expression, a moment of an answer, a timestamp in UTC: an ISO date, with or without a time, of the years 1000
    to 2999. ('infinity' and 'epoch' are moments to the database as well, and it leaves out the offset of a time when it
    makes a timestamp of it.) -#}
{% macro answered_moment(answer, key) %}
    {{- return(adapter.dispatch('answered_moment', 'mnemoduck')(answer, key)) -}}
{% endmacro %}

{% macro duckdb__answered_moment(answer, key) -%}
    case
        when regexp_matches({{ json_text(answer, key) }}, '^[12]\d{3}-\d{2}-\d{2}([T ][0-9:.]+ ?([+-]\d{2}(:?\d{2})?))$')
            then make_timestamp(epoch_us(try_cast({{ json_text(answer, key) }} as timestamptz)))
        when regexp_matches({{ json_text(answer, key) }}, '^[12]\d{3}-\d{2}-\d{2}([T ]|$)')
            then try_cast({{ json_text(answer, key) }} as timestamp)
    end
{%- endmacro %}


{#- Expression, the texts of a list of an answer in order, each once, cut; null where there is no list. -#}
{% macro answered_texts(answer, key, most, characters) %}
    {{- return(adapter.dispatch('answered_texts', 'mnemoduck')(answer, key, most, characters)) -}}
{% endmacro %}

{% macro duckdb__answered_texts(answer, key, most, characters) -%}
    case
        when {{ json_value(answer, key) }} like '[%'
            then list_transform(
                [list_filter(
                    list_transform(
                        list_filter({{ json_objects(json_value(answer, key)) }}, lambda item: item like '"%'),
                        lambda item: left(trim(item ->> '$'), {{ characters }})
                    ),
                    lambda text: text <> ''
                )[:1000]],
                lambda texts: list_filter(
                    texts, lambda text, place: list_position(texts, text) = place
                )[:{{ most }}]
            )[1]
    end
{%- endmacro %}


{#- Expression, the entities of an answer, structs of name and kind, each name once; null where there is no list. -#}
{% macro answered_entities(answer, most=20, characters=200) %}
    {{- return(adapter.dispatch('answered_entities', 'mnemoduck')(answer, most, characters)) -}}
{% endmacro %}

{% macro duckdb__answered_entities(answer, most, characters) -%}
    case
        when {{ json_value(answer, 'entities') }} like '[%'
            then list_transform(
                [list_filter(
                    list_transform(
                        {{ json_objects(json_value(answer, 'entities')) }},
                        lambda entity: {
                            'name': {{ answered_text('entity', 'name', characters) }},
                            'kind': case
                                when {{ json_text('entity', 'kind') }} in ('person', 'place', 'tool', 'organisation')
                                    then {{ json_text('entity', 'kind') }}
                                else 'other'
                            end
                        }
                    ),
                    lambda entity: entity.name is not null
                )[:1000]],
                lambda entities: list_filter(
                    entities,
                    lambda entity, place: list_position(
                        list_transform(entities, lambda other: other.name), entity.name
                    ) = place
                )[:{{ most }}]
            )[1]
    end
{%- endmacro %}


{#- Expression, the facts of an answer that say something, each as JSON text in the form that callers state facts in; times
    are UTC without an offset. -#}
{% macro answered_facts(answer, most=10, characters=300) %}
    {{- return(adapter.dispatch('answered_facts', 'mnemoduck')(answer, most, characters)) -}}
{% endmacro %}

{% macro duckdb__answered_facts(answer, most, characters) -%}
    list_transform(
        list_filter(
            list_transform(
                {{ json_objects(json_value(valid_answer(answer), 'facts')) }}[:1000],
                lambda fact: {
                    'subject': {{ answered_text('fact', 'subject', characters) }},
                    'predicate': {{ answered_text('fact', 'predicate', characters) }},
                    'object': {{ answered_text('fact', 'object', characters) }},
                    'is_functional': try_cast({{ json_text('fact', 'is_functional') }} as boolean),
                    'valid_from': {{ answered_moment('fact', 'valid_from') }},
                    'valid_to': {{ answered_moment('fact', 'valid_to') }}
                }
            ),
            lambda fact: {{ fact_key('fact.subject') }} <> '' and {{ predicate_key('fact.predicate') }} <> ''
            and {{ fact_key('fact.object') }} <> ''
        )[:{{ most }}],
        lambda fact: cast(to_json(fact) as varchar)
    )
{%- endmacro %}
