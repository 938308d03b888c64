#include "client/cli/verbs.h"

namespace orch::cli {

const std::vector<VerbRow>& AllVerbs() {
  // In the order in which a newcomer needs them.
  static const auto* const kRows = new std::vector<VerbRow>{
      {"submit", "Start a run of a pipeline file",
       "Prints the run's name on stdout and its page on stderr. Starts a daemon for you if none is named and none "
       "runs.",
       "orchctl submit penguins.yaml --param folds=5 --watch", MakeSubmit},
      {"validate", "Check a pipeline file without running it",
       "Prints every fault as FILE:LINE:COLUMN. Without a daemon only the file itself is checked.",
       "orchctl validate penguins.yaml", MakeValidate},
      {"plan", "Show what a submission would do",
       "Which steps would run, which are in the cache and from which run, which part of a key changed, and, from "
       "earlier runs, how long it takes. Nothing is started.",
       "orchctl plan penguins.yaml --param folds=5", MakePlan},
      {"get-run", "Show a run", "",
       "orchctl get-run penguins-1\norchctl get-run penguins-1 --jq .run_metadata.orchestrator_url", MakeGetRun},
      {"list-runs", "List runs, newest first", "", "orchctl list-runs --filter 'state=FAILED AND pipeline=penguins'",
       MakeListRuns},
      {"list-steps", "List the steps of a run", "", "orchctl list-steps penguins-1 --filter state=FAILED",
       MakeListSteps},
      {"get-step", "Show a step with its attempts, command and environment", "",
       "orchctl get-step penguins-1 'train[2]'", MakeGetStep},
      {"watch-run", "Follow a run until it ends",
       "A live table on a terminal, lines otherwise. Ctrl-C detaches; the run goes on. Exit code by outcome.",
       "orchctl watch-run penguins-1", MakeWatchRun},
      {"watch-runs", "Follow all runs, or those that pass a filter",
       "A line for each change, until Ctrl-C; with -o json one message a line, each with its resume_token.",
       "orchctl watch-runs --filter 'pipeline=penguins AND state=FAILED,SUCCEEDED'", MakeWatchRuns},
      {"list-events", "List what happened, oldest first", "",
       "orchctl list-events penguins-1 --type STEP_STATE_CHANGED --step 'train[2]'", MakeListEvents},
      {"wait-run", "Wait until a run ends", "Exit code: 0 succeeded, 1 failed, 5 cancelled, 6 time is over.",
       "orchctl wait-run penguins-1 --timeout 10m", MakeWaitRun},
      {"cancel-run", "Stop a run", "Answers when the wish is recorded; wait-run tells when all has ended.",
       "orchctl cancel-run penguins-1", MakeCancelRun},
      {"pause-run", "Let nothing more of a run start", "What runs goes on; time-outs go on too.",
       "orchctl pause-run penguins-1", MakePauseRun},
      {"resume-run", "Let a paused run go on", "", "orchctl resume-run penguins-1", MakeResumeRun},
      {"skip-step", "End a step that has not started as skipped",
       "Steps that depend on it see it as skipped, not as failed; those with trigger_rule none_failed or all_done run.",
       "orchctl skip-step penguins-1 'train[2]'", MakeSkipStep},
      {"retry-run", "Go on with a run that failed or was cancelled",
       "The same run, its next generation: what did not succeed begins again, what succeeded stays as it is. With "
       "--step\n"
       "the named steps and everything that depends on them begin again, however they ended; a parameter that is "
       "changed\n"
       "chooses the steps that use it.",
       "orchctl retry-run penguins-1 --watch\norchctl retry-run penguins-1 --step ingest --param folds=5 --wait",
       MakeRetryRun},
      {"delete-run", "Delete a run that has ended",
       "Its steps, events and logs go, and artifacts that neither the cache nor a name of their own needs.",
       "orchctl delete-run penguins-1", MakeDeleteRun},
      {"logs", "Print what a step wrote", "Both streams, merged by time, byte by byte.",
       "orchctl logs penguins-1 'train[0]' --follow\norchctl logs penguins-1 ingest --attempt 1 --stream stderr\n"
       "orchctl logs penguins-1 ingest --grep 'rows: [0-9]+'\norchctl logs penguins-1 ingest --first-error",
       MakeLogs},
      {"why", "Say why a run or step waits, was cached or not, failed, or was skipped", "",
       "orchctl why penguins-1\norchctl why penguins-1 'train[2]'", MakeWhy},
      {"diff-runs", "Show what two runs do not have in common",
       "Parameters, the pipeline's fields, and for each step state, attempts, caching and outputs.",
       "orchctl diff-runs penguins-1 penguins-2", MakeDiffRuns},
      {"invalidate-cache", "Take a pipeline, or one of its steps, out of the cache",
       "Runs that took the outputs keep them; the next run computes them anew.",
       "orchctl invalidate-cache penguins train --dry-run", MakeInvalidateCache},
      {"list-pipelines", "List pipelines, the newest version of each", "", "orchctl list-pipelines", MakeListPipelines},
      {"list-artifacts", "List artifacts, newest first", "", "orchctl list-artifacts --run penguins-1",
       MakeListArtifacts},
      {"get-artifact", "Show an artifact, or download it",
       "With --output the bytes are written to a file (`-`: stdout); a folder comes as a tar file.",
       "orchctl get-artifact penguins.select.model --output model.bin", MakeGetArtifact},
      {"lineage", "Show what an artifact was made of, and what was made of it",
       "With --run and --step: what an attempt read, and what became of what it made.",
       "orchctl lineage penguins.select.model\norchctl lineage --run penguins-1 --step 'train[2]' --upstream",
       MakeLineage},
      {"open-run", "Print a link that signs a browser in and opens the run's page",
       "The link works once, for five minutes.", "orchctl open-run penguins-1", MakeOpenRun},
      {"list-flavors", "List the kinds of orchestrators and what each needs", "", "orchctl list-flavors -o wide",
       MakeListFlavors},
      {"describe-flavor", "Show a flavor with the schemas of its configuration and settings", "",
       "orchctl describe-flavor local -o json --jq .config_schema", MakeDescribeFlavor},
      {"register-flavor", "Take in the flavor that a plug-in brings",
       "The daemon runs the program (as its own user, without a shell) and asks it what it is; an address is dialled\n"
       "with mTLS. Again after an upgrade of the plug-in. See docs/custom-flavor.md.",
       "orchctl register-flavor ./orch-slurm\norchctl register-flavor gpu-farm:7443 --ca ca.pem --cert us.pem --key "
       "us.key",
       MakeRegisterFlavor},
      {"delete-flavor", "Delete a plug-in's flavor", "Refused while an orchestrator is of it.",
       "orchctl delete-flavor slurm", MakeDeleteFlavor},
      {"register-orchestrator", "Register an orchestrator", "",
       "orchctl register-orchestrator small --flavor local --config cpus=2", MakeRegisterOrchestrator},
      {"list-orchestrators", "List registered orchestrators", "", "orchctl list-orchestrators", MakeListOrchestrators},
      {"get-orchestrator", "Show an orchestrator, and how it is", "", "orchctl get-orchestrator small",
       MakeGetOrchestrator},
      {"check-orchestrator", "Ask an orchestrator's platform whether it would take work now",
       "Says what is wrong and what to do. One that was taken out because it refused too often, and now says that it "
       "is\n"
       "well, is tried at once. Exit code 8 if something is wrong.",
       "orchctl check-orchestrator small", MakeCheckOrchestrator},
      {"update-orchestrator", "Change an orchestrator's configuration or limits",
       "Limits change at any time; the configuration only while nothing runs there. What is not named stays.",
       "orchctl update-orchestrator small --max-parallel 4 --max-rate 2\n"
       "orchctl update-orchestrator small --config cpus=8",
       MakeUpdateOrchestrator},
      {"delete-orchestrator", "Delete an orchestrator",
       "Refused while runs that have not ended use it, or a stack names it.", "orchctl delete-orchestrator small",
       MakeDeleteOrchestrator},
      {"register-artifact-store", "Register a place for the outputs of runs",
       "It is tried first: an object is written, read and removed. Credentials are names of secrets, never values;\n"
       "without them the daemon's environment and its user's AWS files are asked.",
       "orchctl register-artifact-store team --flavor s3 --config bucket=ml-artifacts --config region=eu-west-1\n"
       "orchctl register-artifact-store nfs --flavor local --config path=/mnt/artifacts",
       MakeRegisterArtifactStore},
      {"list-artifact-stores", "List registered artifact stores", "", "orchctl list-artifact-stores",
       MakeListArtifactStores},
      {"get-artifact-store", "Show an artifact store", "", "orchctl get-artifact-store team", MakeGetArtifactStore},
      {"delete-artifact-store", "Take an artifact store out of service",
       "Refused while a stack names it, or artifacts that are kept are there. Its bytes stay.",
       "orchctl delete-artifact-store team", MakeDeleteArtifactStore},
      {"register-stack", "Name an orchestrator and an artifact store that go together, or change such a name", "",
       "orchctl register-stack prod --orchestrator docker --artifact-store team", MakeRegisterStack},
      {"set-stack", "Choose the stack that submissions use which name none", "", "orchctl set-stack prod",
       MakeSetStack},
      {"list-stacks", "List stacks", "", "orchctl list-stacks", MakeListStacks},
      {"get-stack", "Show a stack", "", "orchctl get-stack prod", MakeGetStack},
      {"delete-stack", "Delete a stack", "Refused for the default one. Runs that were submitted with it go on.",
       "orchctl delete-stack prod", MakeDeleteStack},
      {"create-pool", "Make a pool of slots, or change how many it has",
       "Steps that name it in `pools` take slots while they run.",
       "orchctl create-pool db --slots 2 --description 'connections to the warehouse'", MakeCreatePool},
      {"list-pools", "List pools with the slots in use", "", "orchctl list-pools", MakeListPools},
      {"delete-pool", "Delete a pool", "Refused while a step that has not ended names it.", "orchctl delete-pool db",
       MakeDeletePool},
      {"build-image", "Make a container image with what steps need in it",
       "Built by a Docker engine on this machine, once: an image of the same base, packages, files and variables is "
       "not\n"
       "built again. orch-launch is in it. Prints what to write as a step's `image`: the image's id, or with "
       "--registry\n"
       "the name and digest it was pushed under. `submit` does the same for steps with `image: {build: …}`.",
       "orchctl build-image --base python:3.11-slim --requirement numpy==2.1.0 --source .", MakeBuildImage},
      {"set-secret", "Set a secret that steps may name in `secrets`",
       "The value comes from stdin, or from a prompt that does not show it; nobody can read it back. A line end after "
       "a\n"
       "value of one line is left out (--raw keeps it). The next attempt of each step gets the new value.",
       "printf %s \"$PASSWORD\" | orchctl set-secret db-password\norchctl set-secret deploy-key < id_ed25519",
       MakeSetSecret},
      {"list-secrets", "List secrets, never their values", "", "orchctl list-secrets", MakeListSecrets},
      {"delete-secret", "Delete a secret", "Refused while a step that has not ended needs it.",
       "orchctl delete-secret db-password", MakeDeleteSecret},
      {"create-token", "Make a token that a client on another machine is let in with",
       "Prints the token, which is shown this once, or writes it to a new file of mode 0600. `read` may make calls "
       "that\n"
       "change nothing, `full` every call but these three verbs' and `backup`.",
       "orchctl create-token ci --expires 90d --output ci.token\norchctl create-token dashboard --scope read",
       MakeCreateToken},
      {"list-tokens", "List tokens, never their values", "", "orchctl list-tokens", MakeListTokens},
      {"revoke-token", "Shut out whoever has a token", "At once, and for good; streams that it opened end.",
       "orchctl revoke-token ci", MakeRevokeToken},
      {"apply", "Bring orchestrators, pools, artifact stores and stacks to what a file says",
       "Shows the difference first; asks on a terminal. A second time changes nothing. Nothing is deleted.\n"
       "The file: orchestrators: [{name, flavor, config, max_parallel, max_rate}], pools: {db: 2},\n"
       "artifact_stores: [{name, flavor, config}], which are tried; stacks: [{name, orchestrator, artifact_store,\n"
       "image_registry, is_default}], settings: {default_stack: NAME}.",
       "orchctl apply -f site.yaml --dry-run", MakeApply},
      {"prune", "Show what the rules of retention would delete, and with --yes delete it",
       "Without flags the rules are those of the daemon's configuration (`retention:`); without any nothing goes.\n"
       "What has not ended stays, and so do artifacts that a cache entry or a name of their own (`as`) needs.",
       "orchctl prune --runs-max-age 90d --artifacts-max-count 5\norchctl prune --yes", MakePrune},
      {"backup", "Copy the daemon's database while it works",
       "Into a new folder of FOLDER, a path on the daemon's machine, or of where `backup:` in its configuration says.\n"
       "Prints the new folder; `orchd --restore` puts it back. Outputs and logs are not in it: copy `blobs` and\n"
       "`logs` of the data directory after it.",
       "orchctl backup /mnt/backups", MakeBackup},
      {"server-info", "Show the daemon", "", "orchctl server-info -o json --jq .version", MakeServerInfo},
      {"version", "Show the versions of this program and of the daemon", "", "orchctl version", MakeVersion},
      {"completion", "Print a completion script for a shell", "", "source <(orchctl completion bash)", MakeCompletion},
  };
  return *kRows;
}

}  // namespace orch::cli
