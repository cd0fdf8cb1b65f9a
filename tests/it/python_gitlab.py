"""Drives the fake GitLab with python-gitlab, a client nobody here wrote, and checks results and refusals.

Started by fake_gitlab.rs, which prepares the fake: argument 1 is the phase (`free`, `paid` or `deploy`), argument 2 a JSON
object with `url`, `project`, `tokens` (by person), `users` (ids by person) and what the phase needs besides.
"""

import json
import sys

import gitlab
from gitlab.exceptions import GitlabError

PHASE, GIVEN = sys.argv[1], json.loads(sys.argv[2])


def client(person):
    """A client with that person's token; it fails at once instead of waiting."""
    return gitlab.Gitlab(GIVEN["url"], private_token=GIVEN["tokens"][person], timeout=10, retry_transient_errors=False)


def project_of(person):
    return client(person).projects.get(GIVEN["project"])


def same(found, wanted, what):
    if found != wanted:
        raise AssertionError(f"{what}: {found!r} instead of {wanted!r}")


def refused(code, what, act, *args, words=None, **kwargs):
    """The act must be refused with that code, and with these words where given."""
    try:
        act(*args, **kwargs)
    except GitlabError as error:
        same(error.response_code, code, what)
        if words is not None and words not in str(error):
            raise AssertionError(f"{what}: {error} lacks {words!r}") from error
        return
    raise AssertionError(f"{what}: not refused")


def branches(bot, ann):
    names = [it.name for it in bot.branches.list(get_all=True)]
    same(names, sorted(names), "branches in order")
    same([it.name for it in bot.branches.list(search="^wor")], ["work"], "search")
    same([it.name for it in bot.branches.list(regex="^ma.n$")], ["main"], "regex")
    made = ann.branches.create({"branch": "by-python", "ref": "main"})
    same(made.commit["id"], bot.branches.get("main").commit["id"], "a branch starts at its ref")
    refused(400, "twice", ann.branches.create, {"branch": "by-python", "ref": "main"}, words="already exists")
    ann.branches.delete("by-python")
    refused(404, "gone", ann.branches.get, "by-python")
    refused(405, "default branch", bot.branches.delete, "main")


def history(bot):
    compared = bot.repository_compare("main", "work")
    same([it["title"] for it in compared["commits"]], ["Say more"], "commits of a compare")
    same([it["new_path"] for it in compared["diffs"]], ["README.md"], "files of a compare")
    refused(404, "unknown ref", bot.repository_compare, "main", "nope", words="Ref Not Found")
    base = bot.repository_merge_base(["main", "work"])
    same(base["id"], bot.branches.get("main").commit["id"], "merge base")
    refused(400, "one ref", bot.repository_merge_base, ["main"])
    commit = bot.commits.get("work")
    same(commit.parent_ids, [base["id"]], "parents")
    same([it["new_path"] for it in commit.diff(get_all=True)], ["README.md"], "diff of a commit")
    listed = [it.id for it in bot.commits.list(ref_name="work", first_parent=True, per_page=1, get_all=True)]
    same(listed, [commit.id, base["id"]], "commits over pages nobody counted")
    refused(404, "unknown commit", bot.commits.get, "f" * 40)


def settings(bot, ann):
    bot.only_allow_merge_if_pipeline_succeeds = True
    bot.merge_method = "merge"
    bot.squash_option = "default_off"
    bot.save()
    same(bot.only_allow_merge_if_pipeline_succeeds, True, "saved")
    ann.merge_method = "ff"
    refused(403, "a Developer", ann.save)
    bot.manager.gitlab.projects.update(bot.id, {"only_allow_merge_if_pipeline_succeeds": False})


def protected_branches(bot, ann, paid):
    refused(403, "a Developer", ann.protectedbranches.create, {"name": "main"})
    body = {"name": "main", "push_access_level": 0, "merge_access_level": 40}
    refused(400, "unknown level", bot.protectedbranches.create, {"name": "main", "push_access_level": 20})
    made = bot.protectedbranches.create(body)
    same(made.push_access_levels[0]["access_level"], 0, "push")
    refused(409, "twice", bot.protectedbranches.create, body, words="Protected branch 'main' already exists")
    made.allow_force_push = True
    made.save()
    same(bot.protectedbranches.get("main").allow_force_push, True, "changed")
    bot.protectedbranches.delete("main")
    named = {"name": "main", "push_access_level": 0, "allowed_to_merge": [{"user_id": GIVEN["users"]["bot"]}]}
    if paid:
        same(bot.protectedbranches.create(named).merge_access_levels[0]["user_id"], GIVEN["users"]["bot"], "by name")
    else:
        refused(422, "by name needs Premium", bot.protectedbranches.create, named)
        bot.protectedbranches.create(body)


def hooks(bot, ann):
    refused(403, "a Developer", ann.hooks.list)
    refused(422, "no address", bot.hooks.create, {"url": "nonsense"}, words="Invalid url given")
    hook = bot.hooks.create({"url": "https://gate.example/h", "token": "secret", "merge_requests_events": True})
    same((hook.token_present, hook.alert_status, hook.push_events), (True, "executable", True), "made")
    hook.pipeline_events = True
    hook.save()
    same(bot.hooks.get(hook.id).pipeline_events, True, "changed")
    refused(422, "nothing to test with", hook.test, "push_events")
    hook.delete()
    refused(404, "gone", bot.hooks.get, hook.id)


def statuses(bot, head):
    commit = bot.commits.get(head)
    made = commit.statuses.create({"state": "pending", "name": "gate", "ref": "work"})
    refused(400, "same state", commit.statuses.create, {"state": "pending", "name": "gate", "ref": "work"},
            words="Cannot transition status via :enqueue from :pending")
    done = commit.statuses.create({"state": "success", "name": "gate", "ref": "work"})
    same((done.id, done.pipeline_id), (made.id, made.pipeline_id), "one record")
    listed = commit.statuses.list(get_all=True)
    same([(it.name, it.status, it.author["id"]) for it in listed], [("gate", "success", GIVEN["users"]["bot"])], "listed")
    pipelines = bot.pipelines.list(sha=head, source="external", order_by="updated_at", get_all=True)
    same([(it.id, it.status) for it in pipelines], [(made.pipeline_id, "success")], "its pipeline")
    same(bot.pipelines.get(made.pipeline_id).sha, head, "one pipeline")


def merge_request(bot, ann):
    change = ann.mergerequests.create({"source_branch": "work", "target_branch": "main", "title": "Say more"})
    refused(409, "twice", ann.mergerequests.create,
            {"source_branch": "work", "target_branch": "main", "title": "Say more"})
    everywhere = client("bot").mergerequests.list(scope="all", state="opened", order_by="updated_at", get_all=True)
    same([(it.project_id, it.iid, it.sha) for it in everywhere], [(bot.id, change.iid, change.sha)], "over all projects")
    files = bot.mergerequests.get(change.iid).changes()["changes"]
    same([it["new_path"] for it in files], ["README.md"], "files")
    return change


def merges(bot, ann, change):
    other = "0" * 40
    refused(401, "a Developer", ann.mergerequests.get(change.iid).merge, sha=change.sha)
    mine = bot.mergerequests.get(change.iid)
    mine.title = "Draft: Say more"
    mine.save()
    refused(405, "a draft", mine.merge, sha=other)
    mine.title = "Say more"
    mine.save()
    refused(409, "another sha", mine.merge, sha=other, words="SHA does not match HEAD of source branch")
    same(mine.rebase(), {"rebase_in_progress": True}, "rebase")
    mine = bot.mergerequests.get(change.iid)
    landed = mine.merge(sha=mine.sha)
    same((landed["state"], landed["merge_user"]["id"]), ("merged", GIVEN["users"]["bot"]), "merged")
    same(landed["merge_commit_sha"], bot.branches.get("main").commit["id"], "where it landed")
    refused(405, "again", bot.mergerequests.get(change.iid).merge, sha=landed["sha"])
    push = bot.events.list(action="pushed", get_all=False)[0]
    same((push.push_data["ref"], push.push_data["commit_to"]), ("main", landed["merge_commit_sha"]), "told as a push")


def approvals_on_free(bot, change):
    mine = bot.mergerequests.get(change.iid)
    same(mine.approve(sha=mine.sha)["approved_by"][0]["user"]["id"], GIVEN["users"]["bot"], "approved")
    refused(401, "twice", mine.approve)
    mine.unapprove()
    refused(404, "not approved", mine.unapprove)
    refused(404, "rules", bot.approvalrules.list)
    refused(404, "settings", bot.approvals.get)
    refused(401, "status checks", bot.external_status_checks.list)
    refused(404, "environments", bot.protected_environments.list)


def approvals(bot, ann, change):
    kept = bot.approvals.get()
    same(kept.merge_requests_author_approval, False, "authors do not approve")
    bot.approvals.update(new_data={"reset_approvals_on_push": True, "merge_requests_disable_committers_approval": True})
    same(bot.approvals.get().merge_requests_disable_committers_approval, True, "set")
    refused(403, "a Developer", ann.approvals.update, new_data={"reset_approvals_on_push": False})
    wanted = {"name": "Gate", "approvals_required": 1, "user_ids": [GIVEN["users"]["bot"]],
              "applies_to_all_protected_branches": True}
    refused(403, "a Developer", ann.approvalrules.create, wanted)
    rule = bot.approvalrules.create(wanted)
    same([it["id"] for it in rule.users], [GIVEN["users"]["bot"]], "its users")
    mine = bot.mergerequests.get(change.iid)
    same(mine.detailed_merge_status, "not_approved", "waits")
    refused(405, "not approved", mine.merge, sha=mine.sha)
    refused(401, "its author", ann.mergerequests.get(change.iid).approve)
    refused(409, "another sha", mine.approve, sha="0" * 40)
    mine.approve(sha=mine.sha)
    same(mine.approval_state.get().rules[0]["approved"], True, "fulfilled")
    same(mine.approvals.get().approvals_left, 0, "nothing left")
    mine.unapprove()
    refused(404, "not approved", mine.unapprove)
    refused(401, "bots only", ann.mergerequests.get(change.iid).reset_approvals)
    rule.approvals_required = 0
    rule.save()
    same(bot.approvalrules.get(rule.id).approvals_required, 0, "changed")
    rule.delete()
    refused(404, "gone", bot.approvalrules.get, rule.id)


def status_checks(bot, ann, change):
    wanted = {"name": "Gate", "external_url": GIVEN["receiver"], "shared_secret": "hush"}
    refused(401, "a Developer", ann.external_status_checks.create, wanted)
    check = bot.external_status_checks.create(wanted)
    same(check.hmac, True, "its secret is not told")
    refused(422, "name and address are unique", bot.external_status_checks.create, wanted)
    bot.manager.gitlab.projects.update(bot.id, {"only_allow_merge_if_all_status_checks_passed": True})
    mine = bot.mergerequests.get(change.iid)
    same([it.status for it in mine.status_checks.list(get_all=True)], ["pending"], "asked")
    refused(405, "not passed", mine.merge, sha=mine.sha)
    answer = f"/projects/{bot.id}/merge_requests/{change.iid}/status_check_responses"
    post = bot.manager.gitlab.http_post
    body = {"sha": mine.sha, "external_status_check_id": check.id, "status": "passed"}
    refused(409, "another sha", post, answer, post_data={**body, "sha": "0" * 40})
    refused(404, "another check", post, answer, post_data={**body, "external_status_check_id": 7})
    post(answer, post_data=body)
    same(bot.mergerequests.get(change.iid).detailed_merge_status, "mergeable", "passed")
    check.name = "Other"
    check.save()
    same([it.name for it in bot.external_status_checks.list(get_all=True)], ["Other"], "changed")
    check.delete()


def environments(bot, ann):
    wanted = {"name": "staging", "deploy_access_levels": [{"access_level": 40}],
              "approval_rules": [{"user_id": GIVEN["users"]["bot"], "required_approvals": 1}]}
    refused(403, "a Developer", ann.protected_environments.create, wanted)
    same(bot.protected_environments.create(wanted).approval_rules[0]["user_id"], GIVEN["users"]["bot"], "made")
    refused(409, "twice", bot.protected_environments.create, wanted)
    bot.protected_environments.delete("staging")
    refused(404, "gone", bot.protected_environments.get, "staging")
    bot.protected_environments.create({**wanted, "name": "production"})


def deploy(bot, ann):
    gated, free = GIVEN["gated_job"], GIVEN["free_job"]
    same(bot.environments.list(name="production", get_all=True)[0].tier, "production", "environment")
    waiting = bot.jobs.list(scope=["manual"], get_all=True)
    same(sorted(it.id for it in waiting), sorted([gated, free]), "manual jobs")
    of_pipeline = bot.pipelines.get(GIVEN["pipeline"]).jobs.list(scope="manual", get_all=True)
    same(sorted(it.id for it in of_pipeline), sorted([gated, free]), "of the pipeline")
    refused(403, "a Developer on a protected branch", ann.jobs.get(free).play)
    bot.jobs.get(free).play()
    same(bot.jobs.get(free).status, "pending", "played")
    refused(400, "again", bot.jobs.get(free).play, words="Unplayable Job")
    bot.jobs.get(free).cancel()
    same(bot.jobs.get(free).status, "canceled", "cancelled")
    blocked = bot.deployments.list(status="blocked", environment="production", get_all=True)
    same([it.deployable["id"] for it in blocked], [gated], "blocked")
    deployment = bot.deployments.get(blocked[0].id)
    same(deployment.pending_approval_count, 1, "missing")
    refused(400, "not approved", bot.jobs.get(gated).play, words="Unplayable Job")
    refused(400, "whom no rule names", ann.deployments.get(deployment.id).approval, "approved",
            words="You don't have permission to approve")
    refused(400, "no such status", deployment.approval, "perhaps")
    refused(404, "no such deployment", bot.deployments.get, 7)
    same(deployment.approval("approved", comment="Proof 7")["comment"], "Proof 7", "approved")
    deployment = bot.deployments.get(deployment.id)
    same(deployment.status, "created", "free to be played")
    same(deployment.approval_summary["rules"][0]["deployment_approvals"][0]["status"], "approved", "summary")
    same(bot.jobs.get(gated).status, "manual", "an approval starts nothing")
    bot.jobs.get(gated).play()
    same(bot.jobs.get(gated).user["id"], GIVEN["users"]["bot"], "who played")


def main():
    bot, ann = project_of("bot"), project_of("ann")
    if PHASE == "deploy":
        deploy(bot, ann)
        return
    refused(401, "a wrong token", gitlab.Gitlab(GIVEN["url"], private_token="glpat-wrong").auth)
    same(client("bot").personal_access_tokens.get("self").scopes, ["api"], "scopes")
    branches(bot, ann)
    history(bot)
    settings(bot, ann)
    protected_branches(bot, ann, PHASE == "paid")
    hooks(bot, ann)
    change = merge_request(bot, ann)
    statuses(bot, change.sha)
    if PHASE == "free":
        approvals_on_free(bot, change)
    else:
        approvals(bot, ann, change)
        status_checks(bot, ann, change)
        environments(bot, ann)
    merges(bot, ann, change)


main()
print(f"python-gitlab {gitlab.__version__}: {PHASE} done")
