-- The live screen of demo.sh. Its first line is for the next look: events applied until now, and the time.
\set customer '''c-1001'''
SELECT applied AS now_applied, extract(epoch FROM clock_timestamp()) AS now_at FROM profile_stream.stat_streams \gset
SELECT :now_applied, :now_at;
SELECT format('stream    %s events/s, lag %s; %s applied, %s refused, %s twice', CASE WHEN :at > 0 THEN round((s.applied - :applied) / (:now_at - :at)) ELSE 0 END,
	s.lag, s.applied, s.dead, s.duplicates) FROM profile_stream.stat_streams s;
SELECT format('newest    produced %s, committed %s', to_char(last_message_at, 'HH24:MI:SS.MS'), to_char(committed_at, 'HH24:MI:SS.MS'))
FROM profile_stream.stat_partitions ORDER BY last_message_at DESC LIMIT 1;
SELECT format(E'\ncustomer  %s %s, %s, %s', first_name, last_name, customer_id, email) || E'\n' ||
	format('          spent in 30 days  %s, %s since this began', to_char(total_transaction_value_30d, 'FM999990.00'), to_char(total_transaction_value_30d - :spent, 'FMSG999990.00')) || E'\n' ||
	format('          payments          %s in 30 days', transaction_count_30d) || E'\n' ||
	format('          logins            %s in 7 days', login_count_7d) || E'\n' ||
	format('          orders            %s, of your own event type', COALESCE(attributes ->> 'orders', '0'))
FROM profile_stream.profiles WHERE customer_id = :customer;
SELECT format('redis     GET profile:%s, which expires in %s s: spent %s, version %s', :customer, :'ttl', r ->> 'totalTransactionValue30d', r ->> 'version')
FROM (SELECT NULLIF(:'redis', '')::jsonb) t (r);
SELECT format(E'\nsegment   "big shoppers" has %s customers', count(*)) FROM profile_stream.segment_members WHERE segment = 'big shoppers';
SELECT format('          %s %s %s entered', to_char(c.changed_at, 'HH24:MI:SS'), p.first_name, p.last_name)
FROM profile_stream.segment_changes c JOIN profile_stream.profiles p USING (customer_id)
WHERE c.kind = 'rule' AND c.to_segment IS NOT NULL ORDER BY c.change_id DESC LIMIT 4;
SELECT format('%s%s %s', CASE WHEN row_number() OVER (ORDER BY dead_letter_id DESC) = 1 THEN E'\nrefused   ' ELSE '          ' END, to_char(dead_at, 'HH24:MI:SS'), errors[1]) FROM profile_stream.dead_letters ORDER BY dead_letter_id DESC LIMIT 3;
