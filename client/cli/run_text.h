// Runs and steps as tables, and what is printed when a run has ended.
#pragma once

#include <string>
#include <vector>

#include "client/cli/session.h"

namespace orch::cli {

std::string RunsTable(const std::vector<v1::Run>& runs, const Style& style, bool wide);
std::string RunFacts(const v1::Run& run, const Style& style);
std::string StepsTable(const std::vector<v1::Step>& steps, const Style& style, bool wide);
// `EXIT_CODE exit code 3: …`: reason, code and message of a step in a few words.
// What became of hooks, as a table; nothing if there were none.
std::string HooksText(const google::protobuf::RepeatedPtrField<v1::HookRun>& hooks, const std::string& run,
                      const Style& style);
std::string Why(v1::Reason::Code reason, bool has_exit_code, int exit_code, absl::string_view message);

// On stderr: how the run ended, its page unless it has been told already, and of failed steps the reason and the last
// lines of their logs.
void PrintSummary(Session& session, client::Client& client, const v1::Run& run, bool url = true);

// All pages of a run's steps that pass `filter`, at most `limit` (0: all).
absl::StatusOr<v1::ListStepsResponse> AllSteps(client::Client& client, const std::string& run,
                                               const std::string& filter, int64_t limit, const std::string& order = "");

}  // namespace orch::cli
