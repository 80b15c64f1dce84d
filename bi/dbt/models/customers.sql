-- An incremental copy that misses no change: profiles_changed_since() tells what changed since the bookmark of the last load.
-- Who was forgotten goes from the copy as well.
{{ config(
    materialized='incremental',
    unique_key='customer_id',
    post_hook="DELETE FROM {{ this }} c WHERE NOT EXISTS (SELECT FROM {{ source('profile_stream', 'bi_profiles') }} p WHERE p.customer_id = c.customer_id)"
) }}
SELECT p.*, c.next_bookmark AS bookmark, now() AS loaded_at
FROM profile_stream.profiles_changed_since(
    {%- if is_incremental() %}(SELECT t.bookmark FROM {{ this }} t ORDER BY t.loaded_at DESC LIMIT 1){% else %}NULL{% endif %}) c
JOIN {{ source('profile_stream', 'bi_profiles') }} p USING (customer_id)
