{#- Forms of English words that no stemmer brings together: each stands for the first of its group. Irregular ones, and
    the short names of people and things at home, which say the same. -#}
{% macro irregular_forms() %}
    {{ return(
        "arise arose arisen; awake awoke awoken; bear bore borne; beat beaten; become became; begin began "
        ~ "begun beginning; bend bent; bind bound; bite bit bitten; bleed bled; blow blew blown; break broke "
        ~ "broken; breed bred; bring brought; build built; burn burnt; catch caught; choose chose "
        ~ "chosen; come came; creep crept; deal dealt; dig dug; draw drew drawn; dream dreamt; drink drank "
        ~ "drunk; drive drove driven; eat ate eaten; fall fell fallen; feed fed; feel felt; fight fought; find "
        ~ "found; flee fled; fly flew flown; forbid forbade forbidden; forget forgot forgotten; forgive forgave "
        ~ "forgiven; freeze froze frozen; get got gotten; give gave given; go went gone goes; grow grew grown; "
        ~ "hang hung; hear heard; hide hid hidden; hold held; keep kept; know knew known; lead led; learn "
        ~ "learnt; leave left; lend lent; lie lain lying; light lit; lose lost; make made; mean meant; meet "
        ~ "met; pay paid; ride rode ridden; ring rang rung; rise rose risen; run ran; say said; see saw seen; "
        ~ "seek sought; sell sold; send sent; shake shook shaken; shine shone; shoot shot; show shown; shrink "
        ~ "shrank shrunk; sing sang sung; sink sank sunk; sit sat; sleep slept; slide slid; speak spoke spoken; "
        ~ "spend spent; spin spun; spring sprang sprung; stand stood; steal stole stolen; stick stuck; sting "
        ~ "stung; strike struck stricken; swear swore sworn; sweep swept; swim swam swum; swing swung; take "
        ~ "took taken; teach taught; tear tore torn; tell told; think thought; throw threw thrown; understand "
        ~ "understood; wake woke woken; wear wore worn; weave wove woven; weep wept; win won; wind wound; write "
        ~ "wrote written; foot feet; goose geese; half halves; knife knives; leaf leaves; life "
        ~ "lives; loaf loaves; man men; mouse mice; person people; shelf shelves; thief thieves; tooth teeth; "
        ~ "wife wives; wolf wolves; woman women; good better best; bad worse worst; "
        ~ "mother mom moms mommy mum mums mama; father dad dads daddy papa; child children kid kids; grandmother "
        ~ "grandma grandmas granny; grandfather grandpa grandpas; movie film films; photo photograph photographs picture "
        ~ "pictures pic pics; bicycle bike bikes; refrigerator fridge; television tv tvs; phone telephone "
        ~ "telephones cellphone cellphones; doctor physician physicians; buy bought purchase purchased purchases "
        ~ "purchasing"
    ) }}
{% endmacro %}
