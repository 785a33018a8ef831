-- Written by hand: what a batch of the ledger locks and reads, in one round trip. Each statement of it sees what was
-- committed before that statement began (VOLATILE, READ COMMITTED), as if the program had sent them one by one. The
-- columns are those of core/ledger/load.go. A change of the parameters or the columns needs a new name: while the
-- processes of a running system are replaced, the old ones still call this one.

-- +goose Up
-- +goose StatementBegin
CREATE FUNCTION ledger_load(agents uuid[], credentials uuid[], counters text[], accounts uuid[], holds uuid[], keys text[], logs text[])
  RETURNS TABLE(what text, id uuid, name text, x uuid, y uuid, z uuid, s1 text, s2 text, s3 text, s4 text,
    n1 bigint, n2 bigint, n3 bigint, n4 bigint, n5 bigint, yes boolean, at timestamptz)
  LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  all_counters text[] := counters;
  all_accounts uuid[] := accounts;
BEGIN
  -- Locks nothing: a change counts for the holds that are judged after its commit.
  IF cardinality(agents) > 0 THEN
    RETURN QUERY SELECT 'rules', a.id, NULL::text, a.department_id, NULL::uuid, NULL::uuid, NULL::text, NULL::text, NULL::text, NULL::text,
      p.version, COALESCE(d.version, 0), o.version, NULL::bigint, NULL::bigint, a.active, NULL::timestamptz
      FROM agents a JOIN spending_policies p ON p.agent_id = a.id JOIN orgs o ON o.id = a.org_id LEFT JOIN departments d ON d.id = a.department_id
      WHERE a.id = ANY(agents);
  END IF;
  IF cardinality(credentials) > 0 THEN
    RETURN QUERY SELECT 'credential', k.id, NULL::text, NULL::uuid, NULL::uuid, NULL::uuid, NULL::text, NULL::text, NULL::text, NULL::text,
      NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, NULL::bigint, k.revoked_at IS NOT NULL, k.expires_at
      FROM api_keys k WHERE k.id = ANY(credentials);
  END IF;
  -- A hold's accounts and counters never change, so they are read before the locks.
  IF cardinality(holds) > 0 THEN
    all_accounts := all_accounts || ARRAY(SELECT unnest(ARRAY[t.debit_id, t.credit_id]) FROM transfers t WHERE t.id = ANY(holds));
    all_counters := all_counters || ARRAY(SELECT unnest(string_to_array(t.counters, ' ')) FROM transfers t WHERE t.id = ANY(holds) AND t.counters <> '');
  END IF;
  -- Locks are taken in one order everywhere: counters by id, then accounts by id. Counters that are not there are added
  -- before any is locked.
  IF cardinality(all_counters) > 0 THEN
    all_counters := ARRAY(SELECT DISTINCT c FROM unnest(all_counters) AS c);
    IF (SELECT count(*) FROM usages u WHERE u.id = ANY(all_counters)) < cardinality(all_counters) THEN
      INSERT INTO usages (id, spent, calls) SELECT c, 0, 0 FROM unnest(all_counters) AS c ORDER BY c ON CONFLICT DO NOTHING;
    END IF;
    RETURN QUERY SELECT 'counter', NULL::uuid, u.id::text, NULL::uuid, NULL::uuid, NULL::uuid, NULL::text, NULL::text, NULL::text, NULL::text,
      u.spent, u.calls, NULL::bigint, NULL::bigint, NULL::bigint, NULL::boolean, NULL::timestamptz
      FROM usages u WHERE u.id = ANY(all_counters) ORDER BY u.id FOR UPDATE;
  END IF;
  IF cardinality(all_accounts) > 0 THEN
    RETURN QUERY SELECT 'account', a.id, a.kind::text, a.owner_id, a.org_id, a.agent_id, NULL::text, NULL::text, NULL::text, NULL::text,
      a.debits_pending, a.debits_posted, a.credits_posted, a.holds_until, a.version, NULL::boolean, NULL::timestamptz
      FROM accounts a WHERE a.id = ANY(all_accounts) ORDER BY a.id FOR UPDATE;
  END IF;
  -- Behind the locks, for their status may change until then.
  IF cardinality(holds) + cardinality(keys) + cardinality(logs) > 0 THEN
    RETURN QUERY SELECT 'transfer', t.id, t.key::text, t.debit_id, t.credit_id, t.transaction_id, t.status::text, t.code::text, t.counters::text, t.log_key::text,
      t.amount, t.posted, t.block, NULL::bigint, NULL::bigint, NULL::boolean, NULL::timestamptz
      FROM transfers t WHERE t.id = ANY(holds) OR t.key = ANY(keys) OR t.log_key = ANY(logs);
  END IF;
END $$;
-- +goose StatementEnd

-- +goose Down
DROP FUNCTION ledger_load;
