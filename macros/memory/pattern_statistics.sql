{#- What is believed of a pattern: how surely it goes with success, and whether that could be chance. -#}


{#- The lower 2.5 % quantile of Beta(a, b); the upper one is 1 less that of Beta(b, a).

    Newton's method for the logit t of the quantile, on the logarithm of the distribution function F. That is concave,
    so steps go towards the quantile from wherever they start. The logit has the density exp(a t - (a + b) ln(1 + e^t))
    / B(a, b); F / density is its integral up to t, in units (`scale`) in which it falls, by twelve nodes of the rule
    for half lines of Takahasi & Mori (1974). Three steps give the quantile to within 0.0001 where a and b are 0.5 to
    2000: tests compare it with numeric integration. `a`, `b`: columns. -#}
{% macro beta_lower_bound(a, b) -%}
{%- set log_beta = '(lgamma(' ~ a ~ ') + lgamma(' ~ b ~ ') - lgamma(' ~ a ~ ' + ' ~ b ~ '))' -%}
    1 / (1 + exp(-list_reduce(
        [1, 2, 3],
        lambda t, step: list_transform(
            [1 / sqrt(
                pow({{ a }} - ({{ a }} + {{ b }}) / (1 + exp(-t)), 2) + ({{ a }} + {{ b }}) / (1 + exp(-t)) / (1 + exp(t))
            )],
            lambda scale: list_transform(
                [scale * list_sum(list_transform(
                    [
                        [0.000083634362e0, 0.000287023644e0],
                        [0.001504765812e0, 0.003637010771e0],
                        [0.011771018698e0, 0.020515103706e0],
                        [0.052950813812e0, 0.068573665214e0],
                        [0.164937713018e0, 0.164540056335e0],
                        [0.402480556222e0, 0.321985676685e0],
                        [0.835110719770e0, 0.558485143959e0],
                        [1.555831700306e0, 0.904831756732e0],
                        [2.698404066871e0, 1.413056189973e0],
                        [4.462828508221e0, 2.165347920134e0],
                        [7.151587405700e0, 3.287185768225e0],
                        [11.222436140814e0, 4.967848552905e0]
                    ],
                    lambda node: node[2] * exp(
                        ({{ a }} + {{ b }}) * (ln(1 + exp(t)) - ln(1 + exp(t - node[1] * scale))) - {{ a }} * node[1] * scale
                    )
                ))],
                lambda mass: t - mass * (
                    ln(mass) + {{ a }} * t - ({{ a }} + {{ b }}) * ln(1 + exp(t)) - {{ log_beta }} - ln(0.025)
                )
            )[1]
        )[1],
        -- The better of two starts, one of which is right for small and one for large a.
        greatest(
            (ln(0.025) + ln({{ a }}) + {{ log_beta }}) / {{ a }},
            ln({{ a }} / {{ b }}) - 1.959963984540054e0 * sqrt(1 / {{ a }} + 1 / {{ b }})
        )
    )))
{%- endmacro %}


{#- The logarithm of the number of ways to choose some of many. -#}
{% macro log_choose(many, some) -%}
    (lgamma({{ many }} + 1) - lgamma({{ some }} + 1) - lgamma({{ many }} - {{ some }} + 1))
{%- endmacro %}


{% macro log_ways(hits, chosen, successes, total) -%}
    {{ log_choose(successes, hits) }}
    + {{ log_choose('(' ~ total ~ ' - ' ~ successes ~ ')', '(' ~ chosen ~ ' - ' ~ hits ~ ')') }}
{%- endmacro %}


{#- The two-sided p-value of Fisher's exact test (Fisher 1922): how probable a table as improbable as this one or more
    so is, if success has nothing to do with it. Of `total` episodes `successes` succeeded; of those, `chosen` have
    the pattern, and `hits` of these succeeded. A table counts as no more probable if it is within 1e-7 of it, as
    elsewhere. Where tables are many, only those within 12 standard deviations of the expected one are added up: what is
    left out is below 1e-30. -#}
{% macro fisher_p_value(hits, chosen, successes, total) -%}
{%- set expected = '(' ~ chosen ~ ' * (' ~ successes ~ ' / ' ~ total ~ '))' -%}
{%- set reach -%}
    (12 * sqrt({{ expected }} * (1 - {{ successes }} / {{ total }}) * (1 - {{ chosen }} / {{ total }})) + 12)
{%- endset -%}
    least(1, list_sum(list_transform(
        list_transform(
            list_distinct(list_concat([{{ hits }}], range(
                cast(greatest(0, {{ chosen }} + {{ successes }} - {{ total }}, floor({{ expected }} - {{ reach }})) as bigint),
                cast(least({{ chosen }}, {{ successes }}, ceil({{ expected }} + {{ reach }})) as bigint) + 1
            ))),
            lambda others: {{ log_ways('others', chosen, successes, total) }}
        ),
        lambda ways: case
            when ways <= {{ log_ways(hits, chosen, successes, total) }} + 1e-7
                then exp(ways - {{ log_choose(total, chosen) }})
            else 0
        end
    )))
{%- endmacro %}


{#- The share of false discoveries among what is called telling, if all that have a p-value as small as this are
    (Benjamini & Hochberg 1995): p * number of tests / rank, and no more than that of a larger one. -#}
{% macro benjamini_hochberg(relation, p_value, family) -%}
select
    * exclude (raw_q_value),
    least(1, min(raw_q_value) over (partition by {{ family }} order by {{ p_value }} desc nulls first)) as q_value
from (
    select
        *,
        {{ p_value }} * count({{ p_value }}) over (partition by {{ family }})
            / count({{ p_value }}) over (partition by {{ family }} order by {{ p_value }} asc nulls last) as raw_q_value
    from {{ relation }} as tested
) as ranked
{%- endmacro %}
