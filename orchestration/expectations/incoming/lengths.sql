-- One row for each range of lengths of the texts of memories, in powers of two of characters: what it adds to the
-- population stability index of what waits against the newest 100,000 events in raw/. The index is the sum. Fewer
-- than 200 texts on either side are too few: by chance alone 8 ranges of 200 differ by 0.07.
with

now as (

    select floor(log2(content_length + 1))::int as bin, count(*) as texts

    from waiting
    where content_length is not null
    group by bin

),

before as (

    select floor(log2(content_length + 1))::int as bin, count(*) as texts

    from history
    where content_length is not null
    group by bin

),

shares as (

    -- Half a text is added to each range, so that one without any has a share as well.
    select
        bin,
        (coalesce(now.texts, 0) + 0.5) / (sum(coalesce(now.texts, 0)) over () + 0.5 * count(*) over ()) as share,
        (coalesce(before.texts, 0) + 0.5) / (sum(coalesce(before.texts, 0)) over () + 0.5 * count(*) over ())
            as share_before,
        sum(coalesce(now.texts, 0)) over () >= 200 and sum(coalesce(before.texts, 0)) over () >= 200 as are_enough

    from now
    full join before using (bin)

)

select
    concat(1 << bin, ' characters and more') as lengths,
    round(share, 4) as share,
    round(share_before, 4) as share_before,
    if(are_enough, (share - share_before) * ln(share / share_before), null) as stability_part

from shares
order by bin
