// The types of a pod template (core/v1 up to 1.34), one a line: its name, then its fields.
//
//   s text · i whole number · b truth · q quantity · p port (a number or a name) · m map of texts · mq map of
//   quantities · NAME a type of this table · [T] a list that is replaced · [T/key] a list that is merged by that field
//   of its items
#pragma once

namespace orch::kubernetes {

inline constexpr char kPodTypes[] = R"(
PodTemplateSpec metadata:ObjectMeta spec:PodSpec
ObjectMeta annotations:m labels:m
PodSpec activeDeadlineSeconds:i affinity:Affinity automountServiceAccountToken:b containers:[Container/name] dnsConfig:PodDNSConfig dnsPolicy:s enableServiceLinks:b hostAliases:[HostAlias/ip] hostIPC:b hostNetwork:b hostPID:b hostUsers:b hostname:s hostnameOverride:s imagePullSecrets:[LocalObjectReference/name] initContainers:[Container/name] nodeName:s nodeSelector:m os:PodOS overhead:mq preemptionPolicy:s priority:i priorityClassName:s readinessGates:[PodReadinessGate] resourceClaims:[PodResourceClaim/name] resources:ResourceRequirements restartPolicy:s runtimeClassName:s schedulerName:s schedulingGates:[PodSchedulingGate/name] securityContext:PodSecurityContext serviceAccount:s serviceAccountName:s setHostnameAsFQDN:b shareProcessNamespace:b subdomain:s terminationGracePeriodSeconds:i tolerations:[Toleration] topologySpreadConstraints:[TopologySpreadConstraint/topologyKey] volumes:[Volume/name]
PodOS name:s
PodDNSConfig nameservers:[s] options:[PodDNSConfigOption] searches:[s]
PodDNSConfigOption name:s value:s
HostAlias hostnames:[s] ip:s
LocalObjectReference name:s
PodReadinessGate conditionType:s
PodResourceClaim name:s resourceClaimName:s resourceClaimTemplateName:s
PodSchedulingGate name:s
Toleration effect:s key:s operator:s tolerationSeconds:i value:s
TopologySpreadConstraint labelSelector:LabelSelector matchLabelKeys:[s] maxSkew:i minDomains:i nodeAffinityPolicy:s nodeTaintsPolicy:s topologyKey:s whenUnsatisfiable:s
LabelSelector matchExpressions:[SelectorRequirement] matchLabels:m
SelectorRequirement key:s operator:s values:[s]
Affinity nodeAffinity:NodeAffinity podAffinity:PodAffinity podAntiAffinity:PodAffinity
NodeAffinity preferredDuringSchedulingIgnoredDuringExecution:[PreferredSchedulingTerm] requiredDuringSchedulingIgnoredDuringExecution:NodeSelector
PreferredSchedulingTerm preference:NodeSelectorTerm weight:i
NodeSelector nodeSelectorTerms:[NodeSelectorTerm]
NodeSelectorTerm matchExpressions:[SelectorRequirement] matchFields:[SelectorRequirement]
PodAffinity preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm] requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]
WeightedPodAffinityTerm podAffinityTerm:PodAffinityTerm weight:i
PodAffinityTerm labelSelector:LabelSelector matchLabelKeys:[s] mismatchLabelKeys:[s] namespaceSelector:LabelSelector namespaces:[s] topologyKey:s
PodSecurityContext appArmorProfile:SecurityProfile fsGroup:i fsGroupChangePolicy:s runAsGroup:i runAsNonRoot:b runAsUser:i seLinuxChangePolicy:s seLinuxOptions:SELinuxOptions seccompProfile:SecurityProfile supplementalGroups:[i] supplementalGroupsPolicy:s sysctls:[Sysctl] windowsOptions:WindowsOptions
SecurityProfile localhostProfile:s type:s
SELinuxOptions level:s role:s type:s user:s
Sysctl name:s value:s
WindowsOptions gmsaCredentialSpec:s gmsaCredentialSpecName:s hostProcess:b runAsUserName:s
SecurityContext allowPrivilegeEscalation:b appArmorProfile:SecurityProfile capabilities:Capabilities privileged:b procMount:s readOnlyRootFilesystem:b runAsGroup:i runAsNonRoot:b runAsUser:i seLinuxOptions:SELinuxOptions seccompProfile:SecurityProfile windowsOptions:WindowsOptions
Capabilities add:[s] drop:[s]
Container args:[s] command:[s] env:[EnvVar/name] envFrom:[EnvFromSource] image:s imagePullPolicy:s lifecycle:Lifecycle livenessProbe:Probe name:s ports:[ContainerPort/containerPort] readinessProbe:Probe resizePolicy:[ContainerResizePolicy] resources:ResourceRequirements restartPolicy:s securityContext:SecurityContext startupProbe:Probe stdin:b stdinOnce:b terminationMessagePath:s terminationMessagePolicy:s tty:b volumeDevices:[VolumeDevice/devicePath] volumeMounts:[VolumeMount/mountPath] workingDir:s
EnvVar name:s value:s valueFrom:EnvVarSource
EnvVarSource configMapKeyRef:KeySelector fieldRef:ObjectFieldSelector fileKeyRef:FileKeySelector resourceFieldRef:ResourceFieldSelector secretKeyRef:KeySelector
KeySelector key:s name:s optional:b
FileKeySelector key:s optional:b path:s volumeName:s
ObjectFieldSelector apiVersion:s fieldPath:s
ResourceFieldSelector containerName:s divisor:q resource:s
EnvFromSource configMapRef:OptionalReference prefix:s secretRef:OptionalReference
OptionalReference name:s optional:b
ContainerPort containerPort:i hostIP:s hostPort:i name:s protocol:s
ContainerResizePolicy resourceName:s restartPolicy:s
ResourceRequirements claims:[ResourceClaim/name] limits:mq requests:mq
ResourceClaim name:s request:s
VolumeDevice devicePath:s name:s
VolumeMount mountPath:s mountPropagation:s name:s readOnly:b recursiveReadOnly:s subPath:s subPathExpr:s
Lifecycle postStart:LifecycleHandler preStop:LifecycleHandler stopSignal:s
LifecycleHandler exec:ExecAction httpGet:HTTPGetAction sleep:SleepAction tcpSocket:TCPSocketAction
SleepAction seconds:i
ExecAction command:[s]
HTTPGetAction host:s httpHeaders:[HTTPHeader] path:s port:p scheme:s
HTTPHeader name:s value:s
TCPSocketAction host:s port:p
GRPCAction port:i service:s
Probe exec:ExecAction failureThreshold:i grpc:GRPCAction httpGet:HTTPGetAction initialDelaySeconds:i periodSeconds:i successThreshold:i tcpSocket:TCPSocketAction terminationGracePeriodSeconds:i timeoutSeconds:i
Volume awsElasticBlockStore:DiskVolume azureDisk:AzureDiskVolume azureFile:AzureFileVolume cephfs:CephFSVolume configMap:ConfigMapVolume csi:CSIVolume downwardAPI:DownwardAPIVolume emptyDir:EmptyDirVolume ephemeral:EphemeralVolume fc:FCVolume gcePersistentDisk:GCEDiskVolume hostPath:HostPathVolume image:ImageVolume iscsi:ISCSIVolume name:s nfs:NFSVolume persistentVolumeClaim:ClaimVolume projected:ProjectedVolume rbd:RBDVolume secret:SecretVolume
DiskVolume fsType:s partition:i readOnly:b volumeID:s
GCEDiskVolume fsType:s partition:i pdName:s readOnly:b
AzureDiskVolume cachingMode:s diskName:s diskURI:s fsType:s kind:s readOnly:b
AzureFileVolume readOnly:b secretName:s shareName:s
CephFSVolume monitors:[s] path:s readOnly:b secretFile:s secretRef:LocalObjectReference user:s
ConfigMapVolume defaultMode:i items:[KeyToPath] name:s optional:b
KeyToPath key:s mode:i path:s
CSIVolume driver:s fsType:s nodePublishSecretRef:LocalObjectReference readOnly:b volumeAttributes:m
DownwardAPIVolume defaultMode:i items:[DownwardAPIFile]
DownwardAPIFile fieldRef:ObjectFieldSelector mode:i path:s resourceFieldRef:ResourceFieldSelector
EmptyDirVolume medium:s sizeLimit:q
EphemeralVolume volumeClaimTemplate:ClaimTemplate
ClaimTemplate metadata:ObjectMeta spec:ClaimSpec
ClaimSpec accessModes:[s] dataSource:TypedReference dataSourceRef:TypedReference resources:ResourceRequirements selector:LabelSelector storageClassName:s volumeAttributesClassName:s volumeMode:s volumeName:s
TypedReference apiGroup:s kind:s name:s namespace:s
FCVolume fsType:s lun:i readOnly:b targetWWNs:[s] wwids:[s]
HostPathVolume path:s type:s
ImageVolume pullPolicy:s reference:s
ISCSIVolume chapAuthDiscovery:b chapAuthSession:b fsType:s initiatorName:s iqn:s iscsiInterface:s lun:i portals:[s] readOnly:b secretRef:LocalObjectReference targetPortal:s
NFSVolume path:s readOnly:b server:s
ClaimVolume claimName:s readOnly:b
ProjectedVolume defaultMode:i sources:[VolumeProjection]
VolumeProjection clusterTrustBundle:TrustBundleProjection configMap:ConfigMapProjection downwardAPI:DownwardAPIProjection podCertificate:PodCertificateProjection secret:ConfigMapProjection serviceAccountToken:TokenProjection
TrustBundleProjection labelSelector:LabelSelector name:s optional:b path:s signerName:s
ConfigMapProjection items:[KeyToPath] name:s optional:b
DownwardAPIProjection items:[DownwardAPIFile]
PodCertificateProjection certificateChainPath:s credentialBundlePath:s keyPath:s keyType:s maxExpirationSeconds:i signerName:s
TokenProjection audience:s expirationSeconds:i path:s
RBDVolume fsType:s image:s keyring:s monitors:[s] pool:s readOnly:b secretRef:LocalObjectReference user:s
SecretVolume defaultMode:i items:[KeyToPath] optional:b secretName:s
)";

}  // namespace orch::kubernetes
