// Makers of all verbs, for the table in verbs.cc.
#pragma once

#include <memory>

#include "client/cli/verb.h"

namespace orch::cli {

std::unique_ptr<Verb> MakeApply();
std::unique_ptr<Verb> MakeBuildImage();
std::unique_ptr<Verb> MakeCancelRun();
std::unique_ptr<Verb> MakeCheckOrchestrator();
std::unique_ptr<Verb> MakeCompletion();
std::unique_ptr<Verb> MakeDeleteRun();
std::unique_ptr<Verb> MakeCreateToken();
std::unique_ptr<Verb> MakeCreatePool();
std::unique_ptr<Verb> MakeDeleteFlavor();
std::unique_ptr<Verb> MakeDeleteOrchestrator();
std::unique_ptr<Verb> MakeDeletePool();
std::unique_ptr<Verb> MakeDeleteSecret();
std::unique_ptr<Verb> MakeDeleteArtifactStore();
std::unique_ptr<Verb> MakeDeleteStack();
std::unique_ptr<Verb> MakeDescribeFlavor();
std::unique_ptr<Verb> MakeDiffRuns();
std::unique_ptr<Verb> MakeGetArtifact();
std::unique_ptr<Verb> MakeGetArtifactStore();
std::unique_ptr<Verb> MakeGetOrchestrator();
std::unique_ptr<Verb> MakeGetRun();
std::unique_ptr<Verb> MakeGetStack();
std::unique_ptr<Verb> MakeGetStep();
std::unique_ptr<Verb> MakeInvalidateCache();
std::unique_ptr<Verb> MakeLineage();
std::unique_ptr<Verb> MakeListArtifacts();
std::unique_ptr<Verb> MakeListArtifactStores();
std::unique_ptr<Verb> MakeListStacks();
std::unique_ptr<Verb> MakeListEvents();
std::unique_ptr<Verb> MakeListFlavors();
std::unique_ptr<Verb> MakeListOrchestrators();
std::unique_ptr<Verb> MakeListPools();
std::unique_ptr<Verb> MakeListPipelines();
std::unique_ptr<Verb> MakeListRuns();
std::unique_ptr<Verb> MakeListSecrets();
std::unique_ptr<Verb> MakeListSteps();
std::unique_ptr<Verb> MakeListTokens();
std::unique_ptr<Verb> MakeLogs();
std::unique_ptr<Verb> MakeOpenRun();
std::unique_ptr<Verb> MakePlan();
std::unique_ptr<Verb> MakePauseRun();
std::unique_ptr<Verb> MakePrune();
std::unique_ptr<Verb> MakeBackup();
std::unique_ptr<Verb> MakeRegisterArtifactStore();
std::unique_ptr<Verb> MakeRegisterFlavor();
std::unique_ptr<Verb> MakeRegisterOrchestrator();
std::unique_ptr<Verb> MakeRegisterStack();
std::unique_ptr<Verb> MakeResumeRun();
std::unique_ptr<Verb> MakeRetryRun();
std::unique_ptr<Verb> MakeRevokeToken();
std::unique_ptr<Verb> MakeServerInfo();
std::unique_ptr<Verb> MakeSetSecret();
std::unique_ptr<Verb> MakeSetStack();
std::unique_ptr<Verb> MakeSkipStep();
std::unique_ptr<Verb> MakeSubmit();
std::unique_ptr<Verb> MakeUpdateOrchestrator();
std::unique_ptr<Verb> MakeValidate();
std::unique_ptr<Verb> MakeVersion();
std::unique_ptr<Verb> MakeWaitRun();
std::unique_ptr<Verb> MakeWatchRun();
std::unique_ptr<Verb> MakeWhy();
std::unique_ptr<Verb> MakeWatchRuns();

}  // namespace orch::cli
