{#- Everything here is one line of dispatch and a version for DuckDB, so that another engine needs a
    version of its own and no change in any model. -#}

{% macro now_utc() %}{{ return(adapter.dispatch('now_utc', 'mnemoduck')()) }}{% endmacro %}

{#- now() is zoned; going through the epoch needs no time zone data and ignores the session's zone. -#}
{% macro duckdb__now_utc() %}{{ return('make_timestamp(epoch_us(now()))') }}{% endmacro %}


{#- max() reads a whole column where rows were deleted; the first of a sorted column only row groups that can have it. -#}
{% macro newest_of(relation, column) %}{{ return(adapter.dispatch('newest_of', 'mnemoduck')(relation, column)) }}{% endmacro %}

{% macro duckdb__newest_of(relation, column) -%}
    (select newest.{{ column }} from {{ relation }} as newest order by newest.{{ column }} desc nulls last limit 1)
{%- endmacro %}


{% macro seconds_between(earlier, later) %}
    {{- return(adapter.dispatch('seconds_between', 'mnemoduck')(earlier, later)) -}}
{% endmacro %}

{% macro duckdb__seconds_between(earlier, later) %}
    {{- return('((epoch_us(' ~ later ~ ') - epoch_us(' ~ earlier ~ ')) / 1e6)') -}}
{% endmacro %}


{% macro microseconds_since_1970(moment) %}
    {{- return(adapter.dispatch('microseconds_since_1970', 'mnemoduck')(moment)) -}}
{% endmacro %}

{% macro duckdb__microseconds_since_1970(moment) %}{{ return('epoch_us(' ~ moment ~ ')') }}{% endmacro %}


{#- A 128-bit key over columns. Each part is tagged with null or its length, so that no two different
    lists of values have the same text: ('a', null) and (null, 'a') differ. -#}
{% macro hash_key(columns) %}{{ return(adapter.dispatch('hash_key', 'mnemoduck')(columns)) }}{% endmacro %}

{% macro duckdb__hash_key(columns) -%}
    cast(md5(
        {%- for column in columns %}
        coalesce(length(cast({{ column }} as varchar)) || ':' || cast({{ column }} as varchar), '-')
        {{- ' ||' if not loop.last }}
        {%- endfor %}
    ) as uuid)
{%- endmacro %}


{#- Text in Unicode NFC, as a string of SQL. DuckDB's nfc_normalize ends a text at a NUL character, so that is replaced
    first. And it takes the square of the length of a run of combining marks, half an hour for a megabyte of them, so
    joiners part such runs, as the Stream-Safe Text Format of Unicode's annex 15 says: nothing is dropped. Few texts
    are looked at for that: those of which many characters are part of the one before. -#}
{% macro composed_text(text, nul='chr(65533)') %}
    {{- return(adapter.dispatch('composed_text', 'mnemoduck')(text, nul)) -}}
{% endmacro %}

{#- A constant pattern is compiled when the query is planned, for 5 ms; one that looks as if it came from the row is not. -#}
{% macro duckdb__composed_text(text, nul) %}
    {%- set has_runs = 'strlen(' ~ text ~ ') > 1024 and length(' ~ text ~ ') - length_grapheme(' ~ text ~ ') > 200' -%}
    {%- set pattern = "left(" ~ text ~ ", 0) || '(\\p{M}{30})'" -%}
    {%- set parted = 'regexp_replace(' ~ text ~ ', ' ~ pattern ~ ", '\\1' || chr(847), 'g')" -%}
    {{- return(
        'nfc_normalize(replace(case when ' ~ has_runs ~ ' then ' ~ parted ~ ' else ' ~ text ~ ' end, chr(0), ' ~ nul ~ '))'
    ) -}}
{% endmacro %}


{#- Text as it counts for equality: Unicode NFC, lower case, runs of white space as one blank. -#}
{% macro normalised_text(column) %}
    {{- return(adapter.dispatch('normalised_text', 'mnemoduck')(column)) -}}
{% endmacro %}

{% macro duckdb__normalised_text(column) %}
    {{- return("trim(regexp_replace(lower(" ~ composed_text(column) ~ "), '\\s+', ' ', 'g'))") -}}
{% endmacro %}


{% macro json_text(column, key) %}
    {{- return(adapter.dispatch('json_text', 'mnemoduck')(column, key)) -}}
{% endmacro %}

{% macro duckdb__json_text(column, key) %}{{ return("(" ~ column ~ " ->> '" ~ key ~ "')") }}{% endmacro %}


{#- A JSON value as text, null where the key is missing. -#}
{% macro json_value(column, key) %}
    {{- return(adapter.dispatch('json_value', 'mnemoduck')(column, key)) -}}
{% endmacro %}

{% macro duckdb__json_value(column, key) %}
    {{- return("cast(json_extract(" ~ column ~ ", '$." ~ key ~ "') as varchar)") -}}
{% endmacro %}


{#- A JSON object as text, null where there is none. -#}
{% macro json_object(column, key) %}
    {{- return(adapter.dispatch('json_object', 'mnemoduck')(column, key)) -}}
{% endmacro %}

{% macro duckdb__json_object(column, key) -%}
    case
        when json_type({{ column }}, '$.{{ key }}') = 'OBJECT' then {{ json_value(column, key) }}
    end
{%- endmacro %}


{#- A JSON value as a finite double, null where there is none. -#}
{% macro json_number(column, key) %}
    {{- return(adapter.dispatch('json_number', 'mnemoduck')(column, key)) -}}
{% endmacro %}

{% macro duckdb__json_number(column, key) -%}
    case
        when isfinite(try_cast({{ json_text(column, key) }} as double))
            then try_cast({{ json_text(column, key) }} as double)
    end
{%- endmacro %}


{#- A JSON list of texts as a list, empty where the key is missing. -#}
{% macro json_text_list(column, key) %}
    {{- return(adapter.dispatch('json_text_list', 'mnemoduck')(column, key)) -}}
{% endmacro %}

{% macro duckdb__json_text_list(column, key) %}
    {{- return("coalesce((" ~ column ~ " ->> '$." ~ key ~ "[*]'), cast([] as varchar[]))") -}}
{% endmacro %}


{#- The objects of a JSON list, each as JSON text. -#}
{% macro json_objects(column) %}{{ return(adapter.dispatch('json_objects', 'mnemoduck')(column)) }}{% endmacro %}

{% macro duckdb__json_objects(column) %}
    {{- return("cast(json_extract(" ~ column ~ ", '$[*]') as varchar[])") -}}
{% endmacro %}


{#- The words of a text, lower case: runs of letters and digits of any script. -#}
{% macro words(column) %}{{ return(adapter.dispatch('words', 'mnemoduck')(column)) }}{% endmacro %}

{% macro duckdb__words(column) %}
    {{- return("regexp_extract_all(lower(" ~ composed_text(column) ~ "), '[\\p{L}\\p{N}]+')") -}}
{% endmacro %}


{#- The Porter stem of an English word (Porter 1980); other words come back as they are or nearly so. -#}
{% macro stemmed(column) %}{{ return(adapter.dispatch('stemmed', 'mnemoduck')(column)) }}{% endmacro %}

{% macro duckdb__stemmed(column) %}{{ return("stem(" ~ column ~ ", 'porter')") }}{% endmacro %}


{#- A number that stands for a text, 63 bits: of ten million texts two have the same one with a probability of 5e-6. -#}
{% macro short_key(column) %}{{ return(adapter.dispatch('short_key', 'mnemoduck')(column)) }}{% endmacro %}

{% macro duckdb__short_key(column) -%}
    cast(md5_number_lower({{ column }}) & 9223372036854775807 as bigint)
{%- endmacro %}


{#- A number that stands for a text in a scope: 20 bits of the scope and 43 of both, so that rows in order of it lie
    together by scope. Numbers are joined twice as fast as uuids. Where many texts are of one scope, its part is made
    once by clustered_scope, and key_in_scope gives the same number. -#}
{% macro clustered_key(scope_columns, column) -%}
    list_transform([{{ clustered_scope(scope_columns) }}], lambda scope: {{ key_in_scope('scope', column) }})[1]
{%- endmacro %}


{% macro clustered_scope(scope_columns) %}
    {{- return(adapter.dispatch('clustered_scope', 'mnemoduck')(scope_columns)) -}}
{% endmacro %}

{% macro duckdb__clustered_scope(scope_columns) -%}
    list_transform(
        [cast({{ hash_key(scope_columns) }} as varchar)],
        lambda scope: {'name': scope, 'bits': cast(md5_number_lower(scope) & 1048575 as bigint) << 43}
    )[1]
{%- endmacro %}


{% macro key_in_scope(scope, column) %}
    {{- return(adapter.dispatch('key_in_scope', 'mnemoduck')(scope, column)) -}}
{% endmacro %}

{% macro duckdb__key_in_scope(scope, column) -%}
    {{ scope }}.bits | cast(md5_number_lower({{ scope }}.name || {{ column }}) & 8796093022207 as bigint)
{%- endmacro %}


{#- How positive a text is in the words of VADER (Hutto & Gilbert 2014), -1 to 1; null where nothing is known of its
    words. A function that is there in dbt only. -#}
{% macro sentiment_score(column) %}{{ return(adapter.dispatch('sentiment_score', 'mnemoduck')(column)) }}{% endmacro %}

{% macro duckdb__sentiment_score(column) %}{{ return('mnemoduck_sentiment(' ~ column ~ ')') }}{% endmacro %}


{#- Expression, how many items of a list meet a condition on `item`, a name. -#}
{% macro count_of_list(items, item, condition) %}
    {{ return(adapter.dispatch('count_of_list', 'mnemoduck')(items, item, condition)) }}
{% endmacro %}

{% macro duckdb__count_of_list(items, item, condition) -%}
    len(list_filter({{ items }}, lambda {{ item }}: {{ condition }}))
{%- endmacro %}
