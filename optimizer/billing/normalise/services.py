"""FOCUS service categories of the services that bills usually hold; what is not listed is `Other`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ibis.expr.types as ir

VIRTUAL_MACHINES = "Virtual Machines"

_AWS: dict[str, str] = {
    "AmazonEC2": "Compute",
    "ComputeSavingsPlans": "Compute",
    "AmazonECS": "Compute",
    "AmazonEKS": "Compute",
    "AmazonECR": "Compute",
    "AWSLambda": "Compute",
    "AmazonLightsail": "Compute",
    "AWSBatch": "Compute",
    "AmazonS3": "Storage",
    "AmazonGlacier": "Storage",
    "AmazonEFS": "Storage",
    "AmazonFSx": "Storage",
    "AWSBackup": "Storage",
    "AmazonRDS": "Databases",
    "AmazonDynamoDB": "Databases",
    "AmazonElastiCache": "Databases",
    "AmazonRedshift": "Databases",
    "AmazonDocDB": "Databases",
    "AmazonNeptune": "Databases",
    "AmazonMemoryDB": "Databases",
    "AmazonVPC": "Networking",
    "AWSDataTransfer": "Networking",
    "AmazonCloudFront": "Networking",
    "AmazonRoute53": "Networking",
    "AWSELB": "Networking",
    "AmazonApiGateway": "Networking",
    "AWSDirectConnect": "Networking",
    "AmazonCloudWatch": "Management and Governance",
    "AWSCloudTrail": "Management and Governance",
    "AWSConfig": "Management and Governance",
    "AWSSystemsManager": "Management and Governance",
    "awskms": "Security",
    "AWSSecretsManager": "Security",
    "AmazonGuardDuty": "Security",
    "AmazonInspector": "Security",
    "awswaf": "Security",
    "AWSQueueService": "Integration",
    "AmazonSNS": "Integration",
    "AWSEvents": "Integration",
    "AmazonStates": "Integration",
    "AWSGlue": "Analytics",
    "AmazonAthena": "Analytics",
    "AmazonKinesis": "Analytics",
    "ElasticMapReduce": "Analytics",
    "AmazonES": "Analytics",
    "AmazonMSK": "Analytics",
    "AmazonSageMaker": "AI and Machine Learning",
    "AmazonBedrock": "AI and Machine Learning",
    "AmazonSES": "Business Applications",
    "CodeBuild": "Developer Tools",
    "AmazonCognito": "Identity",
    "AWSMigrationHubRefactorSpaces": "Migration",
}
_AWS_NAMES: dict[str, str] = {
    "AmazonEC2": "Amazon Elastic Compute Cloud",
    "AmazonECS": "Amazon Elastic Container Service",
    "AmazonEKS": "Amazon Elastic Container Service for Kubernetes",
    "AmazonRDS": "Amazon Relational Database Service",
    "AmazonS3": "Amazon Simple Storage Service",
    "AmazonVPC": "Amazon Virtual Private Cloud",
    "AWSLambda": "AWS Lambda",
    "ComputeSavingsPlans": "Savings Plans for AWS Compute usage",
}
"""Names of services whose fees, refunds and credits come without one."""

_GCP: dict[str, str] = {
    "Compute Engine": "Compute",
    "Kubernetes Engine": "Compute",
    "Cloud Run": "Compute",
    "Cloud Run Functions": "Compute",
    "App Engine": "Compute",
    "Cloud Storage": "Storage",
    "Filestore": "Storage",
    "Cloud SQL": "Databases",
    "Cloud Spanner": "Databases",
    "Cloud Bigtable": "Databases",
    "Cloud Firestore": "Databases",
    "BigQuery": "Analytics",
    "Cloud Dataflow": "Analytics",
    "Cloud Dataproc": "Analytics",
    "Cloud Pub/Sub": "Integration",
    "Networking": "Networking",
    "Cloud DNS": "Networking",
    "Cloud Logging": "Management and Governance",
    "Cloud Monitoring": "Management and Governance",
    "Cloud Key Management Service (KMS)": "Security",
    "Vertex AI": "AI and Machine Learning",
}
_AZURE: dict[str, str] = {
    "Virtual Machines": "Compute",
    "Virtual Machines Licenses": "Compute",
    "Azure Kubernetes Service": "Compute",
    "Container Instances": "Compute",
    "Azure App Service": "Compute",
    "Functions": "Compute",
    "Storage": "Storage",
    "Backup": "Storage",
    "SQL Managed Instance": "Databases",
    "SQL Database": "Databases",
    "Azure Database for MySQL": "Databases",
    "Azure Database for PostgreSQL": "Databases",
    "Azure Cosmos DB": "Databases",
    "Redis Cache": "Databases",
    "Virtual Network": "Networking",
    "Bandwidth": "Networking",
    "Load Balancer": "Networking",
    "VPN Gateway": "Networking",
    "Log Analytics": "Management and Governance",
    "Azure Monitor": "Management and Governance",
    "Automation": "Management and Governance",
    "Advanced Threat Protection": "Security",
    "Advanced Data Security": "Security",
    "Microsoft Defender for Cloud": "Security",
    "Key Vault": "Security",
    "Azure Data Factory v2": "Integration",
    "Event Hubs": "Analytics",
    "Event Grid": "Integration",
    "Service Bus": "Integration",
    "Azure Databricks": "Analytics",
    "Azure Machine Learning": "AI and Machine Learning",
    "Azure OpenAI": "AI and Machine Learning",
}
_MAPS = {"aws": _AWS, "gcp": _GCP, "azure": _AZURE}


def aws_name(product_code: ir.StringValue) -> ir.StringValue:
    """Return the name of an AWS service from its code."""
    return product_code.cases(*_AWS_NAMES.items(), else_=product_code)


def category(provider: str, service: ir.StringValue) -> ir.StringValue:
    """Return the FOCUS ServiceCategory of a service as its provider calls it."""
    return service.cases(*_MAPS[provider].items(), else_="Other")


_SUBCATEGORIES: dict[str, dict[str, str]] = {
    "aws": {
        "AmazonEC2": VIRTUAL_MACHINES,
        "AmazonLightsail": VIRTUAL_MACHINES,
        "AWSLambda": "Serverless Compute",
        "AmazonECS": "Containers",
        "AmazonEKS": "Containers",
        "AmazonECR": "Containers",
        "AmazonS3": "Object Storage",
        "AmazonGlacier": "Object Storage",
        "AmazonEFS": "File Storage",
        "AmazonFSx": "File Storage",
        "AWSBackup": "Backup Storage",
        "AmazonRDS": "Relational Databases",
        "AmazonDynamoDB": "NoSQL Databases",
        "AmazonElastiCache": "Caching",
        "AmazonRedshift": "Data Warehouses",
        "AmazonCloudFront": "Content Delivery",
    },
    "gcp": {
        "Compute Engine": VIRTUAL_MACHINES,
        "Kubernetes Engine": "Containers",
        "Cloud Run": "Serverless Compute",
        "Cloud Storage": "Object Storage",
        "Filestore": "File Storage",
        "Cloud SQL": "Relational Databases",
        "Cloud Bigtable": "NoSQL Databases",
        "Cloud Firestore": "NoSQL Databases",
        "BigQuery": "Data Processing",
    },
    "azure": {
        "Virtual Machines": VIRTUAL_MACHINES,
        "Azure Kubernetes Service": "Containers",
        "Container Instances": "Containers",
        "Functions": "Serverless Compute",
        "Backup": "Backup Storage",
        "SQL Managed Instance": "Relational Databases",
        "SQL Database": "Relational Databases",
        "Azure Database for MySQL": "Relational Databases",
        "Azure Database for PostgreSQL": "Relational Databases",
        "Azure Cosmos DB": "NoSQL Databases",
        "Redis Cache": "Caching",
    },
    # FOCUS exports name services as people do.
    "focus": {
        "Amazon Elastic Compute Cloud": VIRTUAL_MACHINES,
        "Compute Engine": VIRTUAL_MACHINES,
        "Virtual Machines": VIRTUAL_MACHINES,
    },
}


def subcategory(provider: str, service: ir.StringValue, categories: ir.StringValue) -> ir.StringValue:
    """Return the one ServiceSubcategory of a service, else the `Other (…)` of its category."""
    import ibis

    listed = service.cases(*_SUBCATEGORIES[provider].items(), else_=ibis.null("string"))
    return ibis.coalesce(listed, ibis.literal("Other (") + categories + ")")
