{{ config(tags=['unit']) }}

{#- The same name, its last letter composed and decomposed; Jinja would take care of no escapes in it. -#}
{%- set composed, decomposed = "'Zoë'", "('Zoe' || chr(776))" -%}
{%- set json -%}
    '{"k": "v", "number": 1.50, "list": ["x", "y, z"], "none": null, "quote": "''"}'
{%- endset %}

-- A returned row is a statement about an expression of macros/cross_db that is not true.
with

statements (name, is_true) as (

    values
    (
        'null before a value is not null behind it',
        {{ hash_key(["'a'", 'null']) }} <> {{ hash_key(['null', "'a'"]) }}
    ),
    (
        'null is not the empty text',
        {{ hash_key(['null']) }} <> {{ hash_key(["''"]) }}
    ),
    (
        'values do not run into each other',
        {{ hash_key(["'ab'", "'c'"]) }} <> {{ hash_key(["'a'", "'bc'"]) }}
    ),
    (
        'a value that looks like a part of a key is a value',
        {{ hash_key(["'a'", "'b'"]) }} <> {{ hash_key(["'a1:b'"]) }}
    ),
    (
        'a key of nothing but nulls is no null',
        {{ hash_key(['null', 'null']) }} is not null
    ),
    (
        'texts are equal whatever their case, blanks and composition',
        {{ normalised_text("'  an  ' || " ~ composed ~ " || chr(10)") }}
        = {{ normalised_text("'AN ' || upper(" ~ decomposed ~ ")") }}
    ),
    (
        'texts with other words are not equal',
        {{ normalised_text("'ab'") }} <> {{ normalised_text("'a b'") }}
    ),
    (
        'words are runs of letters and digits of any script, in lower case',
        {{ words("'It''s 9 o''clock, ПРИВЕТ!'") }} = ['it', 's', '9', 'o', 'clock', 'привет']
    ),
    (
        'words are the same in either composition',
        {{ words(composed) }} = {{ words(decomposed) }}
    ),
    (
        'stems are those of Porter',
        {{ stemmed("'relational'") }} = 'relat' and {{ stemmed("'ponies'") }} = 'poni'
    ),
    (
        'the text of a key comes back as it is',
        {{ json_text(json, 'k') }} = 'v' and {{ json_text(json, 'quote') }} = ''''
    ),
    (
        'a key that is missing or null has no text',
        {{ json_text(json, 'missing') }} is null and {{ json_text(json, 'none') }} is null
    ),
    (
        'the value of a key is JSON, and null where it is missing',
        {{ json_value(json, 'list') }} = '["x","y, z"]' and {{ json_value(json, 'missing') }} is null
    ),
    (
        'a list of texts comes back as one',
        {{ json_text_list(json, 'list') }} = ['x', 'y, z']
    ),
    (
        'a list that is missing or null is empty',
        {{ json_text_list(json, 'missing') }} = [] and {{ json_text_list(json, 'none') }} = []
    ),
    (
        'seconds between two moments have fractions',
        {{ seconds_between("timestamp '2026-01-01 00:00:00'", "timestamp '2026-01-01 00:01:00.25'") }} = 60.25
    ),
    (
        'now is now, in UTC',
        abs({{ seconds_between(now_utc(), "timezone('UTC', now())") }}) < 1
    )

)

select * from statements
where is_true is not true
