from django.db import migrations

# A step that is taken again is written again, by whoever holds the lease; the audit log says so.
TAKE_BACK = """
CREATE FUNCTION rlhf_take_back_metrics(run bigint, token bigint, ids bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    gone integer;
BEGIN
    PERFORM 1 FROM rlhf_run
        WHERE id = run AND lease_token = token AND state = 'running' FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % was taken over: lease % may no longer write', run, token
            USING ERRCODE = 'RL001';
    END IF;
    DELETE FROM rlhf_metric WHERE run_id = run AND id = ANY(ids);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone > 0 THEN
        INSERT INTO annotate_auditentry (action, project_id, about, details, request_id)
        SELECT 'take_back_metrics', project_id, 'run:' || run,
            jsonb_build_object('rows', gone, 'lease', token), '-'
        FROM rlhf_run WHERE id = run;
    END IF;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("rlhf", "0013_machines"),
        ("annotate", "0023_keep_an_audit_log"),
    ]

    operations = [
        migrations.RunSQL(
            TAKE_BACK, "DROP FUNCTION rlhf_take_back_metrics(bigint, bigint, bigint[])"
        )
    ]
