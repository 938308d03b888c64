// The one place that includes gRPC and the service stubs: each file that does costs the compiler seconds.
// Private to client/lib.
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/security/credentials.h>

#include "orch/v1/admin_service.grpc.pb.h"
#include "orch/v1/artifact_service.grpc.pb.h"
#include "orch/v1/auth_service.grpc.pb.h"
#include "orch/v1/log_service.grpc.pb.h"
#include "orch/v1/orchestrator_service.grpc.pb.h"
#include "orch/v1/pipeline_service.grpc.pb.h"
#include "orch/v1/run_service.grpc.pb.h"
#include "orch/v1/secret_service.grpc.pb.h"
