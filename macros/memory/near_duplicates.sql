{#- Near-duplicates: texts that say the same in nearly the same words, found in time linear in what is new.

    Each text has a few buckets (bands of its MinHash signature), and meets only the earliest text of each
    of them; what they have in common is then computed exactly. A text is merged into the earliest text
    that it repeats. That depends on earlier texts only, so what comes later never changes it, and the
    order of arrival does not matter. docs/decisions/0007-near-duplicates.md has the reasons and
    docs/near-duplicates.md the figures.

    Sources: Broder (1997), On the resemblance and containment of documents (shingles, MinHash); Carter &
    Wegman (1979), Universal classes of hash functions; Leskovec, Rajaraman & Ullman (2014), Mining of
    Massive Datasets, ch. 3 (bands). -#}


{#- Words that change the way something is said and not what is said: articles, the forms of "be" and
    "have" that are swallowed in speech, and what fills pauses. No pronoun, preposition, tense, quantity or
    negation is among them. -#}
{% macro filler_words() -%}
    [
        'a', 'an', 'the',
        'am', 'm', 'is', 's', 'are', 're', 'have', 've', 'has',
        'ah', 'aha', 'anyway', 'anyways', 'aw', 'eh', 'er', 'erm', 'haha', 'hello', 'hey', 'hi', 'hm', 'hmm',
        'oh', 'ok', 'okay', 'ooh', 'uh', 'um', 'whoa', 'wow', 'yeah', 'yep',
        'actually', 'also', 'and', 'basically', 'honestly', 'indeed', 'just', 'literally', 'please',
        'really', 'simply', 'so', 'that', 'then', 'totally', 'truly', 'very'
    ]
{%- endmacro %}


{#- Words that turn a statement round; "t" is what is left of "don't". -#}
{% macro negation_words() -%}
    [
        'no', 'not', 'never', 'none', 'nobody', 'nothing', 'nowhere', 'neither', 'nor', 'without', 't',
        'cannot', 'cant', 'dont', 'doesnt', 'didnt', 'isnt', 'wasnt', 'wont', 'wouldnt',
        'barely', 'except', 'hardly', 'nearly', 'almost', 'rarely', 'scarcely', 'seldom', 'unless'
    ]
{%- endmacro %}


{#- The words that matter, in their order: all but the filler words. `words` is a list of words. -#}
{% macro words_that_matter(words) %}
    {{- return(adapter.dispatch('words_that_matter', 'mnemoduck')(words)) -}}
{% endmacro %}

{% macro duckdb__words_that_matter(words) -%}
    list_filter({{ words }}, lambda word: not list_contains({{ filler_words() }}, word))
{%- endmacro %}


{#- What must be equal in texts that are merged, as text: the numbers, the negations, whether a question
    is asked, and signs that are neither letters nor punctuation (C++ is not C#, -5 is not 5, a smile is not a
    tear) with the marks that some scripts write vowels with. -#}
{% macro near_duplicate_guard(words, content) %}
    {{- return(adapter.dispatch('near_duplicate_guard', 'mnemoduck')(words, content)) -}}
{% endmacro %}

{% macro duckdb__near_duplicate_guard(words, content) -%}
    concat_ws(
        '|',
        regexp_matches({{ content }}, '[?？؟]'),
        array_to_string(list_filter(
            {{ words }},
            lambda word: regexp_matches(word, '\p{N}') or list_contains({{ negation_words() }}, word)
        ), ' '),
        array_to_string(
            regexp_extract_all(
                {{ composed_text(content) }},
                '[\p{S}\p{M}#@%&/\\]|(?:^|\s)-[0-9]'
            ),
            ''
        )
    )
{%- endmacro %}


{#- The 1- and 2-word shingles of a list of words, each once. -#}
{% macro shingles(words) %}{{ return(adapter.dispatch('shingles', 'mnemoduck')(words)) }}{% endmacro %}

{% macro duckdb__shingles(words) -%}
    list_distinct(list_concat(
        {{ words }},
        list_transform(list_zip({{ words }}, {{ words }}[2:], true), lambda pair: pair[1] || ' ' || pair[2])
    ))
{%- endmacro %}


{#- A query for the buckets of texts: text_id and `buckets`, a list of 64-bit hashes, the first for the words
    that matter and one for each band. Only texts with a bucket in common are compared; those with other
    scopes or guards never have one. Texts without words are left out: they repeat nothing.

    The hash of a word is the lower half of its md5, which is the same in every version of every
    engine, modulo the prime p = 2^31 - 1, below which products of two fit into 64 bits; that of two words is
    made of theirs. The hash functions are (a * x + b) mod p; their constants come from a generator with a
    fixed start (Park & Miller 1988, multiplier 48271), so that they never change.

    `source` is a relation with the columns text_id, scope_key and content. -#}
{% macro text_buckets(source) %}{{ return(adapter.dispatch('text_buckets', 'mnemoduck')(source)) }}{% endmacro %}

{% macro duckdb__text_buckets(source) -%}
{%- set prime = 2147483647 -%}
{%- set bands, rows = parameter('minhash_bands') | int, parameter('minhash_rows') | int -%}
{%- set state = namespace(x=20250301) -%}
{%- set constants = [] -%}
{%- for _ in range(2 * bands * rows) -%}
    {%- set state.x = state.x * 48271 % prime -%}
    {%- do constants.append(state.x) -%}
{%- endfor %}
with

text_words as (

    select
        text_id,
        scope_key,
        content,
        {{ words('content') }} as words

    from {{ source }}

),

word_hashes as (

    select
        text_id,
        cast(scope_key as varchar) || {{ near_duplicate_guard('words', 'content') }} as meeting_place,
        array_to_string({{ words_that_matter('words') }}, ' ') as message,
        [cast(md5_number_lower(word) % {{ prime }} as bigint) for word in words] as hashes

    from text_words
    where len(words) > 0

),

-- Each word beside the one that follows it, null at the end.
placed as (

    select
        text_id,
        unnest(hashes) as one_word,
        unnest(hashes[2:]) as next_word

    from word_hashes

),

shingled as (

    select
        text_id,
        one_word,
        (one_word * 1103515245 + next_word) % {{ prime }} as two_words

    from placed

),

signatures as (

    select
        text_id,
        {%- for multiplier, increment in constants | batch(2) %}
        min(least(
            ({{ multiplier }} * one_word + {{ increment }}) % {{ prime }},
            ({{ multiplier }} * two_words + {{ increment }}) % {{ prime }}
        )) as minimum_{{ loop.index0 }}{{ ',' if not loop.last }}
        {%- endfor %}

    from shingled
    group by text_id

)

select
    word_hashes.text_id,
    [
        md5_number_lower(concat_ws(' ', 'message', word_hashes.meeting_place, word_hashes.message)),
        {%- for band in range(bands) %}
        md5_number_lower(concat_ws(
            ' ', {{ band }}, word_hashes.meeting_place
            {%- for row in range(rows) %}, signatures.minimum_{{ band * rows + row }}{% endfor -%}
        )){{ ',' if not loop.last }}
        {%- endfor %}
    ] as buckets

from word_hashes
inner join signatures on word_hashes.text_id = signatures.text_id
{%- endmacro %}


{#- A query for the pairs of texts of which the later repeats the earlier: text_id, earlier_text_id and
    `similarity`, the exact Jaccard similarity of their shingles, at least near_duplicate_similarity.

    Beyond that, the words that matter have to be the same in the same order, but for
      - words that one of them has more, in one place, if they are at most near_duplicate_additions of it, or
      - misspellings: words of at least 8 letters with the same first and last, of which one lacks an inner
        letter of the other or has two neighbours swapped,
    none of which is written with a capital in either text (a name).

    `pairs` is a relation with text_id and earlier_text_id, `contents` one with text_id and content. -#}
{% macro near_duplicate_pairs(pairs, contents) %}
    {{- return(adapter.dispatch('near_duplicate_pairs', 'mnemoduck')(pairs, contents)) -}}
{% endmacro %}

{% macro duckdb__near_duplicate_pairs(pairs, contents) -%}
with

text_words as (

    select
        text_id,
        content,
        {{ words('content') }} as words

    from {{ contents }}

),

texts as materialized (

    select
        text_id,
        content,
        {{ shingles('words') }} as shingles,
        {{ words_that_matter('words') }} as message

    from text_words

),

compared as (

    select
        pairs.text_id,
        pairs.earlier_text_id,
        earlier.content as earlier_content,
        earlier.message as earlier_message,
        later.content as later_content,
        later.message as later_message,
        len(list_intersect(earlier.shingles, later.shingles)) as shared,
        len(earlier.shingles) + len(later.shingles) as total

    from {{ pairs }} as pairs
    inner join texts as earlier on pairs.earlier_text_id = earlier.text_id
    inner join texts as later on pairs.text_id = later.text_id

),

similar_pairs as (

    select
        *,
        shared / (total - shared) as similarity,
        if(len(earlier_message) > len(later_message), earlier_message, later_message) as longer,
        if(len(earlier_message) > len(later_message), later_message, earlier_message) as shorter

    from compared
    where shared / (total - shared) >= {{ parameter('near_duplicate_similarity') }}

),

aligned as (

    select
        *,
        len(longer) - len(shorter) as added,
        list_zip(shorter, longer, true) as word_pairs,
        coalesce(
            list_position(list_transform(word_pairs, lambda pair: pair[1] <> pair[2]), true) - 1, len(shorter)
        ) as same_at_first,
        list_transform(
            regexp_extract_all(
                {{ composed_text("(earlier_content || ' ' || later_content)") }},
                '\p{Lu}[\p{L}\p{N}]*'
            ),
            lambda word: lower(word)
        ) as names

    from similar_pairs
    where shorter <> longer

),

differing as (

    select
        text_id,
        earlier_text_id,
        similarity,
        names,
        case
            when added > 0 then longer[same_at_first + 1:same_at_first + added]
            else flatten([[pair[1], pair[2]] for pair in word_pairs if pair[1] <> pair[2]])
        end as differences

    from aligned
    where
        if(
            added > 0,
            added <= {{ parameter('near_duplicate_additions') }} * len(longer)
            and shorter[same_at_first + 1:] = longer[same_at_first + added + 1:],
            list_bool_and(list_transform(
                word_pairs,
                lambda pair: pair[1] = pair[2] or {{ is_misspelling('pair[1]', 'pair[2]') }}
            ))
        )

)

select
    text_id,
    earlier_text_id,
    similarity

from similar_pairs
where shorter = longer

union all

select
    text_id,
    earlier_text_id,
    similarity

from differing
where not list_has_any(names, differences)
{%- endmacro %}


{#- Whether two words are one word, misspelt. Shorter words and other letters are too often another word. -#}
{% macro is_misspelling(one, other) %}
    {{- return(adapter.dispatch('is_misspelling', 'mnemoduck')(one, other)) -}}
{% endmacro %}

{% macro duckdb__is_misspelling(one, other) -%}
    (
        least(length({{ one }}), length({{ other }})) >= 8
        and left({{ one }}, 1) = left({{ other }}, 1)
        and right({{ one }}, 1) = right({{ other }}, 1)
        and damerau_levenshtein({{ one }}, {{ other }}) = 1
        and (length({{ one }}) <> length({{ other }}) or levenshtein({{ one }}, {{ other }}) = 2)
    )
{%- endmacro %}
