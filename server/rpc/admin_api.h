// AdminService's calls, for every transport.
#pragma once

#include "orch/v1/admin_service.pb.h"
#include "server/rpc/api_base.h"
#include "server/rpc/method_table.h"

namespace orch::rpc {

class AdminApi {
 public:
  explicit AdminApi(const ApiContext* api) : api_(*api) {}
  void Register(MethodTable* table);

  absl::Status GetServerInfo(const CallContext& context, const v1::GetServerInfoRequest& request, v1::ServerInfo* info);
  absl::Status Prune(const CallContext& context, const v1::PruneRequest& request, v1::PruneResponse* response);
  absl::Status CreateBackup(const CallContext& context, const v1::CreateBackupRequest& request, v1::Backup* backup);
  absl::Status CreateSignInLink(const CallContext& context, const v1::CreateSignInLinkRequest& request,
                                v1::SignInLink* link);

 private:
  const ApiContext& api_;
};

// Every limit in force, by name.
std::map<std::string, int64_t> LimitsByName(const Limits& limits);

// Resident memory of this process, in bytes.
int64_t ResidentMemory();

}  // namespace orch::rpc
