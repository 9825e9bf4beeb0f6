{#- The sentences of a text, in order, without blanks around them.

    A sentence ends with a line, with ! or ?, with a full stop before white space and what can begin another (no
    small letter of a Latin, Greek or Cyrillic script, and no closing mark), and with the full stops of scripts
    that set no blank behind them; closing quotes and brackets belong to it. The full stop of a title, of an
    abbreviation that a capital can follow, of an initial, of a number that begins a line and of a German date
    ends nothing; one within a number or a name (3.5, example.org) has no white space behind it.

    Two control characters, which texts have no use for, stand for a boundary and for such a full stop meanwhile.
    Every step is a regular expression without look-around, linear in the text; ranges of letters stand for
    the classes of Unicode, which take DuckDB ten times as long to prepare. -#}
{% macro sentences(column) %}{{ return(adapter.dispatch('sentences', 'mnemoduck')(column)) }}{% endmacro %}

{% macro duckdb__sentences(column) -%}
    {%- set titles = 'Dr|Mr|Mrs|Ms|Mx|Prof|St|Mt|Rev|Gen|Col|Sgt|Capt|Lt|Gov|Sen|Rep|Hon|Pres|Fr|Hr|Sra|Dra|Mme' -%}
    {%- set shortened = 'e\\.g|i\\.e|vs|cf|approx|ca|fig|vol|pp|al|resp|bzw|inkl|vgl|str|tel|[A-HJ-ZÀ-ÖØ-Þ]' -%}
    {%- set months = 'Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember' -%}
    {%- set small = 'a-zß-öø-ÿąćčęěğłńňőřśšşůűźżžα-ωά-ώа-џ' -%}
    {%- set before = '(^|[\\s\\x1e\\x1f"\u0027“„«([/.-])' -%}
    {%- set stop, boundary = ' || chr(31)', ' || chr(30)' -%}
    {%- set abbreviated = (before ~ '(' ~ titles ~ '|' ~ shortened ~ ')\\.', "'\\1\\2'" ~ stop) -%}
    {%- set text = namespace(sql="translate(" ~ column ~ ", chr(30) || chr(31), '  ')") -%}
    {%- for pattern, replacement in [
        ('\\s*[\\r\\n]+\\s*', 'chr(30)'),
        ('\\b([zdu])\\.(\\s?[Bha])\\.', "'\\1'" ~ stop ~ " || '\\2'" ~ stop),
        abbreviated,
        abbreviated,
        ('\\b(N[or]|Nos)\\.(\\s?[0-9])', "'\\1'" ~ stop ~ " || '\\2'"),
        ('(^|\\x1e)([0-9]{1,3})\\.(\\s)', "'\\1\\2'" ~ stop ~ " || '\\3'"),
        ('([0-9])\\.(\\s(?:' ~ months ~ '))', "'\\1'" ~ stop ~ " || '\\2'"),
        ('([.!?…]+["\u0027’”»)\\]]+|[.…]+)\\s+([^\\s' ~ small ~ '.,;:!?…)\\]}])', "'\\1'" ~ boundary ~ " || '\\2'"),
        ('([!?][.!?…]*)\\s+', "'\\1'" ~ boundary),
        ('([。！？｡]+[」』”’）]*|[؟۔।॥]+\\s)', "'\\1'" ~ boundary),
    ] -%}
        {%- set text.sql = 'regexp_replace(' ~ text.sql ~ ", '" ~ pattern | replace("'", "''") ~ "', " ~ replacement ~ ", 'g')" -%}
    {%- endfor -%}
    list_filter(
        [trim(replace(sentence, chr(31), '.')) for sentence in string_split({{ text.sql }}, chr(30))],
        lambda sentence: sentence <> ''
    )
{%- endmacro %}


{#- Whether a text can have more than one sentence: true for all that have, and for few others. -#}
{% macro can_have_sentences(column) %}
    {{- return(adapter.dispatch('can_have_sentences', 'mnemoduck')(column)) -}}
{% endmacro %}

{% macro duckdb__can_have_sentences(column) -%}
    regexp_matches({{ column }}, '[.!?…]["''’”»)\]]*[\s\x1e\x1f]|[\r\n。！？｡؟۔।॥]')
{%- endmacro %}


{#- Whether a text is one sentence, which `sentences` gives as it is: true for most of those that are. -#}
{% macro is_one_sentence(column) %}
    {{- return(adapter.dispatch('is_one_sentence', 'mnemoduck')(column)) -}}
{% endmacro %}

{% macro duckdb__is_one_sentence(column) -%}
    not ({{ can_have_sentences(column) }} or regexp_matches({{ column }}, '[\x1e\x1f]|^\p{Zs}|\p{Zs}$'))
{%- endmacro %}


{#- Whether a sentence asks something. -#}
{% macro asks(column) -%}regexp_matches({{ column }}, '[?？؟][^\p{L}\p{N}]*$'){%- endmacro %}


{#- A query: the sentences of the texts of a relation with group_id, recency and content, with their place. The first
    20,000 characters of a text count. -#}
{% macro sentences_of_texts(texts) -%}
select
    group_id,
    recency,
    unnest(sentences) as sentence,
    generate_subscripts(sentences, 1) as place

from (
    select
        group_id,
        recency,
        {{ sentences('left(content, 20000)') }} as sentences
    from {{ texts }}
) as split
{%- endmacro %}


{#- The gist of a group of texts: the most central of their sentences, by its similarity to their centroid
    (Radev, Jing, Stys & Tam 2004). It is extractive: a sentence that was said, never one that was made up.

    A sentence is the set of its words, and the centroid of a group counts, for each word, the sentences that have it.
    The similarity is the cosine of the two, sum(counts of the sentence's words) / sqrt(their number), but for a factor
    that all sentences of a group share. A statement goes before a question. Of equally central sentences the one from
    the text that was said last is taken, within a text the first: what was corrected does not come back as the gist.
    Counts are whole numbers, so the result does not depend on any order, and the work is linear in the text.

    `said_words`: a relation with group_id, recency (1 is the text said last), place (of the sentence in its text),
    is_question and word, each once in a sentence. One row per group: group_id, recency and place of the sentence. -#}
{% macro central_sentences(said_words) -%}
select
    group_id,
    recency,
    place

from (
    select
        said.group_id,
        said.recency,
        said.place,
        said.is_question,
        cast(sum(centroids.sentence_count) as bigint) / sqrt(count(*)) as centrality

    from {{ said_words }} as said
    inner join (
        select
            group_id,
            word,
            count(*) as sentence_count

        from {{ said_words }}
        group by group_id, word
    ) as centroids
        on said.group_id = centroids.group_id and said.word = centroids.word
    group by said.group_id, said.recency, said.place, said.is_question
) as compared
qualify row_number() over (partition by group_id order by is_question, centrality desc, recency, place) = 1
{%- endmacro %}


{#- The gists of groups of texts by their words of at least four letters; by all words of a sentence that has none.

    `texts`: a relation with group_id, content and recency (1 is the text said last), of which the first 20 of a group
    count. One row per group in which there is a word: group_id, gist and the recency of its text. -#}
{% macro gists(texts) -%}
with

said_sentences as materialized (

    {{ sentences_of_texts('(select * from ' ~ texts ~ ' where recency <= 20) as last_texts') }}

),

worded as (

    select
        group_id,
        recency,
        place,
        {{ asks('sentence') }} as is_question,
        list_distinct({{ words('sentence') }}) as all_words

    from said_sentences

),

said_words as (

    select
        group_id,
        recency,
        place,
        is_question,
        unnest(
            coalesce(nullif(list_filter(all_words, lambda word: len(word) >= 4), []), all_words)
        ) as word

    from worded

),

central as (

    {{ central_sentences('said_words') }}

)

select
    central.group_id,
    said_sentences.sentence as gist,
    central.recency

from central
inner join said_sentences
    on
        central.group_id = said_sentences.group_id
        and central.recency = said_sentences.recency
        and central.place = said_sentences.place
{%- endmacro %}


{#- A text of at most so many characters; a longer one is cut, which an ellipsis tells. -#}
{% macro cut_text(text, characters) -%}
case when length({{ text }}) > {{ characters }} then left({{ text }}, {{ characters - 1 }}) || '…' else {{ text }} end
{%- endmacro %}
