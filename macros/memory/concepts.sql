{#- What a text is about, without a tagger: its noun-like words, runs of two or three of them, and names.

    A word is out if it stands in the lists below (function words, common verbs, adverbs and adjectives,
    interjections, times, generic nouns), if its ending says that it is no noun (-ly, -ed, -ful, -ous,
    -able …), if it begins with a digit, or if it has fewer than three letters (scripts that have words of two
    excepted, and AI, UK and the like). Two or three that are left side by side are a key phrase as well
    (RAKE: Rose, Engel, Cramer & Cowley 2010); capitalised words side by side, also with `of` between, are one
    name. Who is merely addressed ("Thanks, Anna!") is not what a text is about.

    Words are tested by a regular expression, which runs as one automaton: measured on one core, a tenth of a
    microsecond a word, where a list of the same words costs 0.8 and a string that is searched 5. Asked with
    regexp_replace it is compiled once (2.5 ms), with regexp_full_match twice. -#}


{#- Concepts are made in steps, each a list that the next one reads: runs of words side by side (concept_runs), how
    concepts are written (concept_forms) and their keys (concept_keys), in the same order and with repetitions. A step
    is a column of a subquery, with_concepts: one expression that holds another one costs a third more. -#}


{#- A query: the columns of a source, and of the text in one of them concept_forms and concept_keys. -#}
{% macro with_concepts(source, column) -%}
select
    * exclude (concept_runs),
    {{ concept_forms('concept_runs') }} as concept_forms,
    {{ concept_keys('concept_runs') }} as concept_keys

from (
    select
        *,
        {{ concept_runs(column) }} as concept_runs
    from {{ source }}
) as running
{%- endmacro %}


{#- Of a list of keys each once, at most concepts_per_memory: those count that a text has most often, then those that
    it has first. In no order. -#}
{% macro concept_terms(keys) %}{{ return(adapter.dispatch('concept_terms', 'mnemoduck')(keys)) }}{% endmacro %}

{% macro duckdb__concept_terms(keys) -%}
    case
        when len({{ keys }}) <= {{ parameter('concepts_per_memory') }} then list_distinct({{ keys }})
        else list_transform({{ concept_mentions(keys, keys) }}, lambda mention: mention.concept)
    end
{%- endmacro %}


{#- The same in order, with the form in which the text has each first: a list of structs whose fields are uses (how often
    it has it, negative), place, concept and form. -#}
{% macro concept_mentions(forms, keys) %}
    {{- return(adapter.dispatch('concept_mentions', 'mnemoduck')(forms, keys)) -}}
{% endmacro %}

{#- In most texts no concept comes twice, so that they are in order as they are. -#}
{% macro duckdb__concept_mentions(forms, keys) -%}
    case
        when len(list_distinct({{ keys }})) = len({{ keys }})
            then list_transform({{ keys }}[:{{ parameter('concepts_per_memory') }}], lambda concept, place: {
                'uses': -1,
                'place': place,
                'concept': concept,
                'form': {{ forms }}[place]
            })
        else list_sort(list_transform(list_distinct({{ keys }}), lambda concept: {
            'uses': -len(list_filter({{ keys }}, lambda other: other = concept)),
            'place': list_position({{ keys }}, concept),
            'concept': concept,
            'form': {{ forms }}[list_position({{ keys }}, concept)]
        }))[:{{ parameter('concepts_per_memory') }}]
    end
{%- endmacro %}


{#- The single words among the concepts of a text, in lower case, without the s of a plural: what tells whether
    texts of the same minutes have to do with each other. For a handful of texts a list that is searched costs less
    than an automaton that is made first, and a client of a published view may have no stemmer. -#}
{% macro concept_words(column) %}
    {{- return(adapter.dispatch('concept_words', 'mnemoduck')(column)) -}}
{% endmacro %}

{% macro duckdb__concept_words(column) -%}
    list_distinct([
        regexp_replace(word, '([^s])s$', '\1') for word in {{ words(column) }}
        if len(word) > 2
        and not word between '0' and ':'
        and not regexp_matches(word, '(ed|ly)$')
        and not contains(' {{ (common_words() ~ ' ' ~ common_verbs()).split() | join(' ') }} ', ' ' || word || ' ')
    ])
{%- endmacro %}


{#- The keys of the concepts in a list of runs: small letters, each word stemmed. All runs are one text meanwhile, since
    a list for each costs more than its stems; a word is stemmed once, however many concepts it is in. -#}
{% macro concept_keys(runs) %}{{ return(adapter.dispatch('concept_keys', 'mnemoduck')(runs)) }}{% endmacro %}

{% macro duckdb__concept_keys(runs) -%}
    {%- set words -%}
        string_split(replace(replace(lower(array_to_string({{ runs }}, ' | ')), '__', '_'), '_', ' _ '), ' ')
    {%- endset -%}
    {%- set stems -%}
        list_transform({{ words }}, lambda part: case when part in ('|', '_') then part else {{ stemmed('part') }} end)
    {%- endset -%}
    {{ concepts_of_runs(
        "string_split(replace(array_to_string(" ~ stems ~ ", ' '), ' _ ', '_'), ' | ')[:len(" ~ runs ~ ")]"
    ) }}
{%- endmacro %}


{#- The concepts in a list of runs as they are written, in order and with repetitions: names, key phrases, and the
    words of key phrases. -#}
{% macro concept_forms(runs) %}{{ return(adapter.dispatch('concept_forms', 'mnemoduck')(runs)) }}{% endmacro %}

{% macro duckdb__concept_forms(runs) %}{{ return(concepts_of_runs(runs)) }}{% endmacro %}

{#- A run of several words is a concept, and so is each of them. -#}
{% macro concepts_of_runs(runs) -%}
    list_transform(
        flatten(list_transform(
            {{ runs }},
            lambda run: case
                when contains(run, ' ') then list_prepend(run, string_split(run, ' ')) else [run]
            end
        )),
        lambda concept: case
            when contains(concept, '_') then replace(replace(concept, '__', ' '), '_', ' ') else concept
        end
    )
{%- endmacro %}


{#- The runs of a text: words that can be concepts side by side, three at most, parted by blanks; a name is one word
    whose parts are joined by _ or __. Only the first 2,000 characters of a text count. -#}
{% macro concept_runs(column) %}{{ return(adapter.dispatch('concept_runs', 'mnemoduck')(column)) }}{% endmacro %}

{% macro duckdb__concept_runs(column) -%}
{%- set capital = '[A-ZÀ-ÖØ-ÞΑ-ΩА-Я]' -%}
{#- Each word stays as it is or becomes a mark: ~word (can be part of a name), @ (a greeting) or |; the ends of clauses
    stay as ; or one of , . ! ? -#}
{%- set marked -%}
    list_transform(
        regexp_extract_all(
            left({{ composed_text(column, "' '") }}, 2000),
            '[\p{L}\p{M}\p{N}]+|[.,;:!?()"…]+| [-–—]+ '
        ),
        lambda word: case
            when word < '0' or word between ':' and '@'
                then case when left(word, 1) in (',', '.', '!', '?') then left(word, 1) else ';' end
            when word between '0' and ':' or len(word) > 40 then '|'
            when regexp_replace(lower(word), '^(?:{{ words_that_are_no_concepts() }})$', '') <> ''
                and (len(word) > 2 or word >= 'Ա') then word
            when (len(word) > 4 or word < 'a')
                and contains(' {{ words_that_are_concepts_all_the_same() }} ', ' ' || word || ' ') then word
            when word = 'of' then '~of'
            when word < 'a' and contains(' {{ words_of_names() }} ', ' ' || word || ' ') then '~' || word
            when word < 'a' and contains(' {{ greetings() }} ', ' ' || word || ' ') then '@'
            else '|'
        end
    )
{%- endset -%}
{%- set text = "array_to_string(" ~ marked ~ ", ' ')" -%}
{#- Who is addressed: after a greeting, or alone between the ends of clauses. -#}
{%- set text = "regexp_replace(" ~ text ~ ", '@ " ~ capital ~ "[^ ]*|(?:^|[,.!?] )" ~ capital ~ "[^ ]* ?(?:[.!?,]|$)', '|', 'g')" -%}
{%- set join_names = "'~?(" ~ capital ~ "[^ |~]*)(?: ~(of))? (" ~ capital ~ ")', '\\1_\\2_\\3', 'g'" -%}
{%- set text = "regexp_replace(regexp_replace(" ~ text ~ ", " ~ join_names ~ "), " ~ join_names ~ ")" -%}
{%- set text = "regexp_replace(" ~ text ~ ", '~[^ ]*', '|', 'g')" -%}
    regexp_extract_all({{ text }}, '[^ |@;,.!?]+(?: [^ |@;,.!?]+){0,2}')
{%- endmacro %}


{#- Words that are no concepts, parted by blanks: function words, adverbs, adjectives, interjections, times, generic
    nouns. -#}
{% macro common_words() -%}
    able about above across active admitting after afternoon afternoons afterwards again against
    age ages ago agreed aha ahead ain aint alike alive all almost alone along alot already
    alright also although always amazing amid among amongst amount amounts and another any
    anyhow anymore anyone anything anytime anyway anyways anywhere apart apr april are aren argh
    around asap aside aspect aspects ate aug august aware away awful awhile aww awww ayy babe
    back backing backward bad became because been before beforehand began beginning begun behind
    bein being below beneath beside besides best bet better between beyond big bigger bit bits
    blast blew blown boo bore boring both bought brave bravo breathtaking brief bright brilliant
    bro broad broke broken brought btw buddy built bummer bunch busy but bye came can cannot
    cant captivating carefree case cases caught centuries century certain challenging chance
    chances charming chatting cheap chill chilling chose chosen clean clever clock close closer
    cold collab comfy committing common complex confident congrats congratulations cool correct
    cos could couldn couple course cozy crap crazy creative crucial current cut cute cuts
    cutting cuz cya dammit damn dang dark darn date dates daunting day days daytime deal deals
    dear dec decade decades december deep def despite detail details did didn didnt died dies
    difference different difficult digging direct disappointing does doesn doesnt doin doing don
    done dont dope down drawn drew driven drop dropping drops drove dry dude due duh dull dunno
    during dying each eager earlier easier easy eaten ecstatic eek effort either eleven else
    elsewhere empowering empty engaging enough entertaining enthusiastic entire epic equal
    especial essential etc etcetera eternal even evening evenings ever every everyone everything
    everywhere eww exact example examples excellent except exciting exclusive expensive
    experience experiences extra extreme fab fact facts fair fake fallen false familiar
    fantastic far farewell farther fascinating fast fastest fave favor favorite favorites
    favourite feb february feelings fell felt few fewer final fine fingers firm first fitting five
    flat flew folks fond for forgets forgetting forgot forgotten form former forward fought
    found four free frequent fresh fri friday fridays from frustrating fulfilling full fun funny
    further furthermore fyi gah gave general gentle genuine getting giant gimme given glad goin
    gone gonna good goodbye goodnight gosh got gotta gotten grand great greater greatest
    greetings grew gross grown guys had hadn hah haha hahaha half happier happy hard harder
    harsh has hasn haven healthy heard heartbreaking heartfelt heartwarming heavy hectic heh
    hehe held hell hello hence her here hereby hers hey hid hidden high higher him his hit
    hither hits hitting hiya hmm hmmm honest honey hooray hoping hot hour hours how however huge
    hugging huh humble humbling hurray idea ideal ideas idk ima imma immediate immense imo
    impact important impressive incl incoming indeed independent individual informative ing
    initial innovative insane inside instance instant instead intense interesting into
    invigorating inward isn isnt issue issues item items its ive jan january jeez jul jun june
    just keen kept key kind kinda kinds knew known kudos laid lain large larger last lasting
    late later latest lazy least led left lemme lent less lesser lest let lets letting level
    levels lies life likewise lit little lmao local lol long longer lost lot lots low lower
    lowest luck lucky luv lying maam mad made magical main major many mar march massive matching
    mate may maybe mayn meant meanwhile mental mere messy met mhm midnight might mightn million
    mine minor minute minutes moment moments mon monday mondays month months more moreover
    morning mornings most much must mustn mutual nah narrow nasty native near nearby nearest
    neat necessary needn negative neither never new newer newest next nice nicer night nights
    nine nobody none noon nope nor normal nostalgic not nothin nothing nov november now nowadays
    nowhere number numbers occurring oclock oct october odd off often ohh okay okey old older
    oldest omg once one ones ongoing only onto oof ooh oops opportunities opportunity optimistic
    option options ordinary original other others otherwise ouch ought our ours out outgoing
    outside outstanding over overall overwhelming owed paid pal part particular parts passionate
    past people per perfect perhaps period periods person personal phew physical pic pics
    picture piece pieces plain pleasant please pleasing pleasure plenty pls plugging plus plz
    polite poor popular positive potential practical preferring pretty private prob problem
    problems process progress proper proud public pumps pure purpose putting question questions
    quick quiet quit quite quitting rad ran random rare rather raw read ready real reason
    reasons reassuring recent referring refreshing regret regular relevant reminder reset
    resilient rich ridden right risen rode rose rough rude run runs sad safe said same sane sang
    sat saturday saturdays saw scary sec second seconds secs seen self sense sent sep separate
    sept september set sets setting seven several severe shall shan sharp she shit shocking
    shook short shorter shot should shouldn shown shut shutting shy sick side sides significant
    similar simple simpler since single sir sitting situation situations six skipping slept
    slight slow small smaller smart smooth social soft sold solid solution some someday somehow
    someone something sometime sometimes somewhat somewhere soon soothing sorry sorta sought
    special specific spectacular spent spoke spoken spot square standard steady step stepping
    steps still stood stop stopping stops straight strange strict strong stronger struck stuck
    stuff stunning success such sudden sun sunday sundays sung sup super superb supportive sure
    surreal swam sweet swum taken tall tasty taught tbh ten terrifying than thankyou that thats
    the their theirs them then thence therapeutic there thereafter thereby therefore therein
    theres these they thick thin thing things thirty this tho those though thought thoughts
    thousand three threw through throughout thrown thru thu thur thurs thursday thursdays thus
    thx tied tight till time times tiny tiring today together told tomorrow ton tonight tons too
    took top topic tore total tough toward towards tricky true truth tryin tue tues tuesday
    tuesdays twelve twenty twice two typical ugh uhh umm under underneath understood unique
    unless unlike until unto upcoming uplifting upon upset upward upwards urgent used usual utc
    vague value varying vast versus very via vibrant view wanna was wasn wasnt way ways weak wed
    wednesday wednesdays week weekend weekends weeks weird well went were weren wet what
    whatever whats when whence whenever where whereas whereby wherein wherever whether whew
    which whichever while whilst whither who whoa whoever whole whom whoops whose why wide wild
    will willing win winning wins wise with within without woah woke won wont woo woohoo wooo
    word words wore world worn worse worst worth worthwhile worthy would wouldn wow wowza
    wrapping written wrong wrote xoxo yah yall yay yea yeah yeap year years yep yes yesterday
    yet yikes yooo you young younger your youre yours yuck yum yummy yup zero
{%- endmacro %}


{#- Common verbs whose endings are added to them as they are. -#}
{% macro common_verbs() -%}
    accept accomplish act adapt add adjust admit affect afford aim allow answer appear approach
    ask assist attempt attend avoid await begin belong blow boost borrow bother brighten bring
    build burn buy call calm catch chat check cheer cherish clear click collect commit complain
    concern confirm connect consider consist contact contain count cover crack depend develop
    disappear discover discuss doubt earn eat embed encounter end enjoy enter exist expand
    expect explain express fail fall feel fight fill find finish fit fix focus follow gain
    gather get go grow guess hand hang happen hear help hold hook hope hug impress improv intend
    join jump keep kick kill know lack laugh lead lean learn lend lift listen look maintain
    matter mean meet mention mind miss need obtain occur offer open own pass pay perform pick
    point post prefer present pretend prevent proceed protect pull push put reach react recall
    reckon recommend recover reflect regard relax remain remember remind repeat represent
    request respect respond rest result return reward say search see seek seem sell send shift
    shoot show sign sit sleep smell sort sound spark speak spend spread stack stand start stay
    stick strengthen suck suffer suggest suit support surround swing talk teach tear tell tend
    thank think thrill throw touch transform treat trust try turn understand visit wait want
    warm warn wash watch weigh wish wonder worry yell
{%- endmacro %}



{#- One regular expression for lower case words. Inflections of verbs are spelled by their endings. -#}
{% macro words_that_are_no_concepts() -%}
    {%- set verbs_without_e -%}
        achiev acknowledg admir advis agre appreciat approv argu aris arriv assum becom believ blam
        breath bridg brows car caus celebrat chang chas choos collaborat com combin compar complet
        confus continu contribut cop creat debat decid dedicat defin describ deserv determin disagre
        embrac enabl encourag energiz ensur evolv examin exchang explor fac figur forc forgiv gaz
        giv guarante handl hat hav hid imagin improv includ increas indicat inspir introduc invit
        involv judg leav lik liv los lov mak manag measur motivat mov not notic offer oppos overcom
        participat plac prepar produc promis promot prov provid pursu rais realis realiz receiv
        recognis recogniz reduc relat releas reli reliev remov replac requir resolv rid ris sav scar
        schedul serv settl shak shap shar shin smil solv stat strik striv struggl suppos surpris
        surviv tackl tak tast tri typ updat urg us utiliz wak wast welcom wip
    {%- endset -%}
    {%- set verbs_without_y -%}
        appl carr clarif den hurr identif notif occup qualif rel repl satisf simplif tr worr
    {%- endset -%}
    {{- common_words().split() | join('|') -}}
    |(?:{{ common_verbs().split() | join('|') }})(?:s|es|ing)?
    {{- '' -}}
    |(?:{{ verbs_without_e.split() | join('|') }})(?:e|es|ing)
    {{- '' -}}
    |(?:{{ verbs_without_y.split() | join('|') }})(?:y|ies|ying)
    {{- '' -}}
    |[a-z]{2}(?:[a-z]+(?:ly|ful|ous|able|ible|[^rntq]est|ional|less|some|body|selves)|[a-z]*(?:[^e]ed|self))
{%- endmacro %}


{#- What the rules above would leave out. -#}
{% macro words_that_are_concepts_all_the_same() -%}
    {%- set words -%}
        AI AR DC EU HR LA NY PC PR PhD TV UI UK UN US UX VR anomaly assembly belly billy biped
        bobsled budapest bully butterfly conquest constable crucible dolly embed emily family folly
        handful handsome harvest holly homeless hundred inquest italy jelly kelly mandible molly
        monopoly moped mouthful northwest polly professional rally reply request sally seabed silly
        southwest spoonful supply timetable vegetable willy
    {%- endset -%}
    {{- words.split() | join(' ') -}}
{%- endmacro %}


{#- No concepts, but part of a name if a capitalised word follows: New York, Game of Thrones. -#}
{% macro words_of_names() -%}
    New Old Big Little Good Great First Second Third Seven High Long Cold Hot Rich Free Open Real Wild True Dark
    {{- ' ' -}} Best One Three Public United National
{%- endmacro %}


{#- A name after one of these is that of who is addressed. -#}
{% macro greetings() -%}
    {%- set words -%}
        Absolutely Agreed Ah Awesome Aww Bye Cheers Congrats Congratulations Cool Definitely Exactly
        Great Haha Hello Hey Hi Indeed Lol Morning Nope Oh Ok Okay Right Sorry Sure Thanks Thx
        Totally True Well Whoa Woah Woohoo Wow Yay Yeah Yep Yes You Yup
    {%- endset -%}
    {{- words.split() | join(' ') -}}
{%- endmacro %}
