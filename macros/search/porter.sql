{#- The Porter stems of words (Porter 1980, as Snowball's `porter` has it) in plain SQL: DuckDB's `stem` is in an extension
    that a reader of a snapshot may not have. Each step is a CTE, since nested expressions would grow with each.

    words   relation: word, in small letters -#}
{% macro porter_stems(words) -%}
{%- set vowel, consonant = '[aeiouy]', '[^aeiouy]' -%}
{%- set short_syllable = "'[^aeiouy][aeiouy][^aeiouywxY]$'" -%}
with

-- y is a consonant at the beginning and after a vowel, and written Y then.
with_consonants as (

    select
        word,
        regexp_replace(regexp_replace(word, '^y', 'Y'), '([aeiouy])y', '\1Y', 'g') as marked

    from {{ words }}

),

-- Where the regions begin that suffixes are taken from: behind the first consonant after a vowel, and once more.
with_regions as (

    select
        word,
        marked,
        length(coalesce(nullif(regexp_extract(marked, '^{{ consonant }}*{{ vowel }}+{{ consonant }}'), ''), marked))
            as first_region,
        length(coalesce(nullif(regexp_extract(
            marked, '^{{ consonant }}*{{ vowel }}+{{ consonant }}+{{ vowel }}+{{ consonant }}'
        ), ''), marked)) as second_region

    from with_consonants

),

without_plural as (

    select
        word,
        first_region,
        second_region,
        case
            when ends_with(marked, 'sses') or ends_with(marked, 'ies') then left(marked, length(marked) - 2)
            when ends_with(marked, 's') and not ends_with(marked, 'ss') then left(marked, length(marked) - 1)
            else marked
        end as stem

    from with_regions

),

with_ending as (

    select
        *,
        regexp_extract(stem, '(eed|ed|ing)$') as ending

    from without_plural

),

without_ending as (

    select
        word,
        first_region,
        second_region,
        case
            when ending = 'eed' and length(stem) - 3 >= first_region then left(stem, length(stem) - 1)
            when ending in ('ed', 'ing') and regexp_matches(left(stem, length(stem) - length(ending)), '{{ vowel }}')
                then left(stem, length(stem) - length(ending))
            else stem
        end as stem,
        ending in ('ed', 'ing') and regexp_matches(left(stem, length(stem) - length(ending)), '{{ vowel }}')
            as is_cut

    from with_ending

),

mended as (

    select
        word,
        first_region,
        second_region,
        case
            when not is_cut then stem
            when regexp_matches(stem, '(at|bl|iz)$') then stem || 'e'
            when regexp_matches(stem, '(bb|dd|ff|gg|mm|nn|pp|rr|tt)$') then left(stem, length(stem) - 1)
            when length(stem) = first_region and regexp_matches(stem, {{ short_syllable }}) then stem || 'e'
            else stem
        end as stem

    from without_ending

),

with_i as (

    select
        word,
        first_region,
        second_region,
        case
            when regexp_matches(stem, '{{ vowel }}.*[yY]$') then left(stem, length(stem) - 1) || 'i'
            else stem
        end as stem

    from mended

),

{% for step, before, suffixes in [
    ('with_second_suffix', 'with_i', 'ational:ate tional:tion ization:ize iveness:ive fulness:ful ousness:ous '
        ~ 'biliti:ble ation:ate alism:al aliti:al iviti:ive ousli:ous entli:ent enci:ence anci:ance abli:able izer:ize '
        ~ 'ator:ate alli:al eli:e'),
    ('with_third_suffix', 'with_second_step', 'icate:ic iciti:ic ical:ic alize:al ative: ful: ness:'),
] -%}
{%- set names = [] -%}
{%- for pair in suffixes.split() -%}{%- do names.append(pair.split(':')[0]) -%}{%- endfor -%}
{{ step }} as (

    select
        *,
        regexp_extract(stem, '({{ names | join('|') }})$') as suffix

    from {{ before }}

),

{{ 'with_second_step' if loop.first else 'with_third_step' }} as (

    select
        word,
        first_region,
        second_region,
        case
            when suffix = '' or length(stem) - length(suffix) < first_region then stem
            else left(stem, length(stem) - length(suffix)) || case suffix
                {%- for pair in suffixes.split() %}
                when '{{ pair.split(':')[0] }}' then '{{ pair.split(':')[1] }}'
                {%- endfor %}
            end
        end as stem

    from {{ step }}

),

{% endfor -%}
with_fourth_suffix as (

    select
        *,
        regexp_extract(
            stem, '(ement|ance|ence|able|ible|ment|ant|ent|ism|ate|iti|ous|ive|ize|ion|al|er|ic|ou)$'
        ) as suffix

    from with_third_step

),

with_fourth_step as (

    select
        word,
        first_region,
        second_region,
        case
            when
                suffix <> '' and length(stem) - length(suffix) >= second_region
                and (suffix <> 'ion' or regexp_matches(stem, '[st]ion$'))
                then left(stem, length(stem) - length(suffix))
            else stem
        end as stem

    from with_fourth_suffix

),

without_e as (

    select
        word,
        second_region,
        case
            when
                ends_with(stem, 'e') and (
                    length(stem) - 1 >= second_region
                    or (
                        length(stem) - 1 >= first_region
                        and not regexp_matches(left(stem, length(stem) - 1), {{ short_syllable }})
                    )
                )
                then left(stem, length(stem) - 1)
            else stem
        end as stem

    from with_fourth_step

)

select
    word,
    replace(
        case when ends_with(stem, 'll') and length(stem) - 1 >= second_region then left(stem, length(stem) - 1) else stem end,
        'Y',
        'y'
    ) as stem

from without_e
{%- endmacro %}
