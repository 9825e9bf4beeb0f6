{{ config(tags=['unit']) }}

{#- Ages are in seconds before noon. The numbers are for the project's own parameters: d = 0.5, S = 7 days,
    growth 2, s = 0.4. -#}
{%- set noon = "timestamp '2026-01-01 12:00:00'" %}

-- A returned row is a value of a macro that differs by more than 1e-9 from the number computed by hand.
with

used (name, use_count, first_age, recent_ages, expected) as (

    values
    -- ln(100^-0.5) = -ln(10)
    ('one use', 1, 100, [100], -2.302585092994),
    -- ln(86400^-0.5)
    ('one use a day ago', 1, 86400, [86400], -5.683371477396),
    -- ln(1 + 0.1), in any order
    ('two uses', 2, 100, [1, 100], 0.095310179804),
    ('two uses in another order', 2, 100, [100, 1], 0.095310179804),
    -- relearned a day after it was learned: ln(86400^-0.5 + 3600^-0.5)
    ('a use an hour and one a day ago', 2, 86400, [3600, 86400], -3.908592109993),
    -- ages are at least a second: ln(1 + 1)
    ('two uses at the moment', 2, 0, [0, 0], 0.693147180560),
    -- ln(0.1): the use in the future does not exist yet
    ('a use that is still to come', 2, 100, [-50, 100], -2.302585092994),
    -- ln(0.1 + 0.05 + 10 * (100 - 20) / (0.5 * (10000 - 400)))
    ('a tail of ten older uses', 12, 10000, [100, 400], -1.149905583056),
    -- ln(0.1 + 2 * 0.1)
    ('a tail at one moment', 3, 100, [100], -1.203972804326),
    -- nothing to take the logarithm of
    ('no use yet', 1, -100, [-100], null),
    ('no use yet, with a tail', 3, -100, [-100], null)

),

used_at as (

    select
        name,
        use_count,
        {{ noon }} - to_seconds(first_age) as first_used_at,
        list_transform(recent_ages, lambda age: {{ noon }} - to_seconds(age)) as recent_use_times,
        expected

    from used

),

-- e^-1, e^-2, and never more than 1
retained (days, expected) as (

    values (7, 0.367879441171), (14, 0.135335283237), (0, 1), (-1, 1)

),

-- 7 * 2^n
reinforced (times, expected) as (

    values (0, 7), (1, 14), (3, 56)

),

-- 1 / (1 + e^(-x / 0.4)): a half at the threshold, three quarters 0.4 * ln(3) above it
recalled (above, expected) as (

    values (0, 0.5), (0.439444915467, 0.75), (-0.439444915467, 0.25)

),

-- The power law: the odds p / (1 - p) of ten times the age, as a share of those of the age. 10^(-0.5 / 0.4)
ages (age, expected) as (

    values (86400, 0.056234132519), (864000, 0.056234132519)

),

aged as (

    select
        *,
        {{ noon }} - to_seconds(age) as used_at,
        {{ noon }} - to_seconds(10 * age) as used_earlier_at

    from ages

),

decayed as (

    select
        *,
        {{ retrieval_probability(activation('1', 'used_at', '[used_at]', noon), '-7.5') }} as sooner,
        {{ retrieval_probability(
            activation('1', 'used_earlier_at', '[used_earlier_at]', noon), '-7.5'
        ) }} as later

    from aged

),

-- The spacing effect: what is left a time after two spaced uses as a multiple of what is left after two
-- massed ones, S being 14 and 7 days: e^(t / 14)
respaced (days, expected) as (

    values (14, 2.718281828459), (0, 1)

),

compared as (

    select
        'activation of ' || name as name,
        {{ activation('use_count', 'first_used_at', 'recent_use_times', noon) }} as actual,
        expected

    from used_at

    union all

    select
        'retention after ' || days || ' days' as name,
        {{ retention(noon ~ ' - to_days(days)', '7', noon) }} as actual,
        expected

    from retained

    union all

    select
        'stability after ' || times || ' spaced reinforcements' as name,
        {{ stability_days('times') }} as actual,
        expected

    from reinforced

    union all

    select
        'retrieval probability ' || above || ' above the threshold' as name,
        {{ retrieval_probability('-7.5 + above', '-7.5') }} as actual,
        expected

    from recalled

    union all

    select
        'odds of retrieval at ten times an age of ' || age || ' seconds' as name,
        (later / (1 - later)) / (sooner / (1 - sooner)) as actual,
        expected

    from decayed

    union all

    select
        'advantage of spaced uses after ' || days || ' days' as name,
        {{ retention(noon ~ ' - to_days(days)', stability_days('1'), noon) }}
        / {{ retention(noon ~ ' - to_days(days)', stability_days('0'), noon) }} as actual,
        expected

    from respaced

)

select * from compared
where
    (actual is null) <> (expected is null)
    or abs(actual - expected) > 1e-9
