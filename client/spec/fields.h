// The message-typed fields that pipelines and steps are made of. Each function reads one value, short forms included,
// with the reader's path at that value; faults go to the reader.
#pragma once

#include "client/spec/reader.h"
#include "orch/v1/pipeline.pb.h"

namespace orch::spec {

using Texts = google::protobuf::Map<std::string, std::string>;

void ReadParameters(Reader& reader, Ref ref, orch::v1::Pipeline* out);
void ReadLabels(Reader& reader, Ref ref, Texts* out);
void ReadEnv(Reader& reader, Ref ref, Texts* out);
void ReadCommand(Reader& reader, Ref ref, google::protobuf::RepeatedPtrField<std::string>* out);
void ReadHooks(Reader& reader, Ref ref, orch::v1::Hooks* out);
void ReadInputs(Reader& reader, Ref ref, orch::v1::StepSpec* out);
void ReadOutputs(Reader& reader, Ref ref, orch::v1::StepSpec* out);
void ReadForeach(Reader& reader, Ref ref, orch::v1::StepSpec* out);
void ReadRetry(Reader& reader, Ref ref, orch::v1::Retry* out);
void ReadTimeout(Reader& reader, Ref ref, orch::v1::Timeout* out);
void ReadResources(Reader& reader, Ref ref, orch::v1::Resources* out);
void ReadCache(Reader& reader, Ref ref, orch::v1::Cache* out);
void ReadImage(Reader& reader, Ref ref, orch::v1::Image* out);
void ReadSecrets(Reader& reader, Ref ref, orch::v1::StepSpec* out);
void ReadPools(Reader& reader, Ref ref, orch::v1::StepSpec* out);
void ReadSource(Reader& reader, Ref ref, orch::v1::Source* out);

}  // namespace orch::spec
